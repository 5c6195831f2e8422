import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from tests.unit.runtime.conftest import turns

from ciclo.errors import Fatal, Retry
from ciclo_runtime.clock import ManualClock
from ciclo_runtime.metrics import ServiceMetrics
from ciclo_runtime.reconcile import Reconciler

INTERVAL = timedelta(minutes=1)


class World:
    """Counts steps; a step can be made to fail or to take long."""

    def __init__(self) -> None:
        self.steps = 0
        self.running = 0
        self.most_at_once = 0
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def step(self) -> None:
        self.steps += 1
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        await self.gate.wait()
        self.running -= 1
        if self.error:
            raise self.error


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def reconciler(
    world: World, metrics: ServiceMetrics, clock: ManualClock
) -> AsyncIterator[Reconciler]:
    part = Reconciler("routes", world.step, interval=INTERVAL, metrics=metrics, clock=clock)
    yield part
    await part.stop()


async def idle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_step_runs_at_start_on_wake_and_every_interval(
    reconciler: Reconciler, world: World, clock: ManualClock
) -> None:
    await reconciler.start()
    await turns(lambda: world.steps == 1)
    await idle()
    assert world.steps == 1

    reconciler.wake()
    await turns(lambda: world.steps == 2)
    await idle()

    clock.advance(INTERVAL)
    await turns(lambda: world.steps == 3)


async def test_wakes_during_a_step_lead_to_one_more_and_never_two_at_once(
    reconciler: Reconciler, world: World
) -> None:
    await reconciler.start()
    await turns(lambda: world.steps == 1)
    await idle()
    world.gate.clear()
    reconciler.wake()
    await turns(lambda: world.running == 1)
    for _ in range(5):
        reconciler.wake()
    world.gate.set()
    await turns(lambda: world.steps == 3)
    await idle()

    assert (world.steps, world.most_at_once) == (3, 1)


@pytest.mark.parametrize(
    ("error", "outcome"), [(Retry("away"), "retried"), (KeyError("bug"), "failed")]
)
async def test_a_step_that_fails_is_counted_and_repeated_after_a_wait(
    reconciler: Reconciler,
    world: World,
    clock: ManualClock,
    metrics: ServiceMetrics,
    error: Exception,
    outcome: str,
) -> None:
    world.error = error
    await reconciler.start()
    await turns(lambda: world.steps == 1)
    await idle()
    reconciler.wake()
    await idle()
    assert world.steps == 1, "a wake does not shorten the wait"

    clock.advance(timedelta(seconds=1))
    await turns(lambda: world.steps == 2)

    counted = metrics.registry.get_sample_value(
        "ciclo_trainer_reconcile_steps_total", {"name": "routes", "outcome": outcome}
    )
    assert counted is not None


async def test_fatal_ends_it(reconciler: Reconciler, world: World) -> None:
    world.error = Fatal("no use")
    await reconciler.start()

    with pytest.raises(Fatal, match="no use"):
        await reconciler.wait()
