import asyncio
from datetime import timedelta

import pytest
from tests.unit.runtime.conftest import turns

from ciclo.errors import Fatal
from ciclo_runtime.lifecycle import Background, Service


class Noted:
    """A part that notes what is done to it."""

    def __init__(self, name: str, notes: list[str], *, fails: str = "") -> None:
        self.name = name
        self._notes = notes
        self._fails = fails

    async def start(self) -> None:
        self._note("start")

    async def stop(self) -> None:
        self._note("stop")

    def _note(self, what: str) -> None:
        self._notes.append(f"{what} {self.name}")
        if what == self._fails:
            raise KeyError(f"{self.name} did not {what}")


class Announcer(Noted):
    async def set_serving(self, is_serving: bool) -> None:
        self._note(f"serving={is_serving}")


class Worker(Background):
    def __init__(self, error: Exception | None = None) -> None:
        super().__init__("worker")
        self.error = error
        self.dies = asyncio.Event()
        self.was_cancelled = False

    async def run(self) -> None:
        try:
            await self.dies.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        if self.error:
            raise self.error


class Stuck(Noted):
    async def stop(self) -> None:
        await super().stop()
        await asyncio.Event().wait()


async def test_parts_start_in_order_and_stop_in_reverse_and_are_announced_between() -> None:
    notes: list[str] = []
    service = Service("s", [Noted("a", notes), Announcer("b", notes)])
    stopping = asyncio.Event()
    running = asyncio.create_task(service.run(stopping))
    await turns(lambda: "serving=True b" in notes)

    stopping.set()
    await running

    assert notes == [
        "start a",
        "start b",
        "serving=True b",
        "serving=False b",
        "stop b",
        "stop a",
    ]


async def test_a_part_that_dies_stops_the_service_which_says_why() -> None:
    notes: list[str] = []
    worker = Worker(ZeroDivisionError("a bug"))
    worker.dies.set()

    with pytest.raises(ZeroDivisionError, match="a bug"):
        await Service("s", [Noted("a", notes), worker]).run(asyncio.Event())

    assert notes == ["start a", "stop a"]


async def test_a_part_that_ends_by_itself_is_dead() -> None:
    worker = Worker()
    worker.dies.set()

    with pytest.raises(Fatal, match="worker ended by itself"):
        await Service("s", [worker]).run(asyncio.Event())


async def test_a_part_that_does_not_start_stops_those_before_it() -> None:
    notes: list[str] = []
    parts = [Noted("a", notes), Noted("b", notes, fails="start"), Noted("c", notes)]

    with pytest.raises(KeyError, match="b did not start"):
        await Service("s", parts).run(asyncio.Event())

    assert notes == ["start a", "start b", "stop b", "stop a"]


async def test_a_part_that_does_not_stop_is_told_and_the_others_are_stopped() -> None:
    notes: list[str] = []
    stopping = asyncio.Event()
    stopping.set()
    service = Service("s", [Noted("a", notes), Noted("b", notes, fails="stop")])

    with pytest.raises(Fatal, match="b did not stop"):
        async with service:
            pass

    assert notes[-1] == "stop a"
    assert len(service.stop_failures) == 1


async def test_a_part_that_hangs_is_given_up_after_the_drain_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ciclo_runtime.lifecycle.LAST_GRACE", timedelta(milliseconds=5))
    notes: list[str] = []
    parts = [Noted("a", notes), Stuck("b", notes)]

    with pytest.raises(Fatal, match="TimeoutError"):
        async with Service("s", parts, drain_timeout=timedelta(milliseconds=5)):
            pass

    assert notes[-1] == "stop a"


async def test_a_service_can_be_stopped_while_it_starts() -> None:
    notes: list[str] = []
    stopping = asyncio.Event()

    class Slow(Noted):
        async def start(self) -> None:
            await super().start()
            stopping.set()
            await asyncio.Event().wait()

    await Service("s", [Noted("a", notes), Slow("b", notes)]).run(stopping)

    assert notes == ["start a", "start b", "stop b", "stop a"]


async def test_background_work_is_cancelled_and_waited_for() -> None:
    worker = Worker()
    async with Service("s", [worker]):
        await asyncio.sleep(0)

    assert worker.was_cancelled
