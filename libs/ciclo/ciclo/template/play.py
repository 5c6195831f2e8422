"""Makes up customers for churn and plays them into Ciclo, as sources and callers would.

Throw it away once you have your own: all that they need is `ciclo.client`, or the gRPC and Kafka
messages behind it. Every number is a function of its hour: the same world can be played again.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Final

import grpc.aio
import numpy as np
import typer
from numpy.typing import NDArray

from ciclo.cli.connection import DEFAULT_STATE, Connection, StateDir, connect
from ciclo.client import Client, Features, Source
from ciclo.errors import CicloError
from ciclo.events.v1.labels_reported_pb2 import Label

MODEL: Final = "churn"
FEATURE_SERVICE: Final = "churn"
VIEW: Final = "activity"

START: Final = datetime(2024, 1, 1, tzinfo=UTC)
"""Hour 0: history lies before it, traffic begins with it."""

CHANGE_DAY: Final = 20
"""From this day on a rival's offer tempts those who come often: few visits say little any more."""

SEED: Final = 4
CUSTOMERS: Final = 480
ROWS_AN_HOUR: Final = 20
PLANS: Final = ("free", "basic", "pro")
HOUR_US: Final = 3_600_000_000

LAG_HOURS, SLOWEST_LABEL_HOURS = 1, 20
"""As `knowledge_lag` and within `label.expected_within` in loop.yaml."""

READY_SECONDS: Final = 120.0
"""How long the first request waits for a version that answers."""


@dataclass(frozen=True, slots=True)
class Renewals:
    """Subscriptions that come up for renewal in some hours: what is asked, and the truth.

    Attributes:
        columns: Entity and request fields by name, [n] each.
        hour: When it is asked, [n].
        cancelled: The label, 0 or 1, [n].
        known_hour: When the label is known, [n].
    """

    columns: dict[str, Any]
    hour: NDArray[np.int64]
    cancelled: NDArray[np.float64]
    known_hour: NDArray[np.int64]


@lru_cache(maxsize=8)
def activity(day: int) -> dict[str, NDArray[np.float64]]:
    """Returns the fields of the view on a day, [CUSTOMERS] each."""
    habit = np.random.default_rng(SEED).normal(size=CUSTOMERS)
    dice = _dice(1, day)
    visits = dice.poisson(np.exp(1.3 + 0.7 * habit)).astype(np.float64)
    return {
        "visits": visits,
        "minutes": np.round(visits * dice.gamma(4.0, 3.0, CUSTOMERS), 1),
        "tickets": dice.poisson(0.5, CUSTOMERS).astype(np.float64),
        "idle_days": np.round(dice.exponential(7.0 / (1.0 + visits)), 1),
    }


@lru_cache(maxsize=64)
def renewals(hour: int) -> Renewals:
    """Returns what is asked in an hour."""
    dice = _dice(2, hour)
    customer = dice.choice(CUSTOMERS, ROWS_AN_HOUR, replace=False)
    plan = dice.integers(len(PLANS), size=ROWS_AN_HOUR)
    price = np.round(10.0 * plan * dice.choice([0.8, 1.0, 1.2], ROWS_AN_HOUR), 2)
    logit = _leaning(hour, customer, plan, price) + 0.15 * _dice(3, hour // 24).normal()
    return Renewals(
        {
            "renewal": [f"r{hour}-{number}" for number in range(ROWS_AN_HOUR)],
            "customer": [f"c{number:03}" for number in customer],
            "plan": [PLANS[number] for number in plan],
            "price": price,
        },
        np.full(ROWS_AN_HOUR, hour),
        (dice.random(ROWS_AN_HOUR) < 1 / (1 + np.exp(-logit))).astype(np.float64),
        hour + dice.integers(4, SLOWEST_LABEL_HOURS, ROWS_AN_HOUR),
    )


def _leaning(
    hour: int, customer: NDArray[np.int64], plan: NDArray[np.int64], price: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns how much each customer leans to cancelling, as a logit, [n]."""
    day, hour_of_day = divmod(hour - LAG_HOURS, 24)
    today, before = activity(day), activity(day - 1)
    is_newer = customer % 24 <= hour_of_day
    known = {
        name: np.where(is_newer, today[name][customer], before[name][customer]) for name in today
    }
    use = np.log1p(known["visits"]) - 1.4
    logit = -1.2 + 0.7 * (known["tickets"] - 0.5) + 0.05 * (price - 10 * plan) - 0.3 * (plan == 0)
    if hour // 24 >= CHANGE_DAY:
        return np.asarray(logit - 0.2 * use + 0.5 * (plan == 2))
    return np.asarray(logit - 1.2 * use + 0.1 * known["idle_days"])


def _dice(kind: int, number: int) -> np.random.Generator:
    """Returns dice of their own for a day or an hour; numbers before the start are negative."""
    return np.random.default_rng((SEED, kind, number % 2**32))


@dataclass(slots=True)
class Played:
    """What came of it."""

    rows: int = 0
    labels: int = 0
    failed: list[str] = field(default_factory=list)
    versions: set[tuple[int, str]] = field(default_factory=set)


async def send_history(system: Connection, days: int) -> int:
    """Publishes features and imports labelled rows of the days before the start."""
    stored = 0
    async with (
        Source(system.addresses["kafka"], system.env, "play") as source,
        Features(system.addresses["feature-store"]) as features,
    ):
        for first in range(-24 * (days + 1), 0, 24):
            await publish(source, range(first, first + 24))
        for first in range(-24 * days, 0, 24):
            asked = [renewals(hour) for hour in range(first, first + 24)]
            stored += await features.import_observations(
                MODEL,
                f"play-{first}",
                {name: _joined([r.columns[name] for r in asked]) for name in asked[0].columns},
                _us(_joined([r.hour for r in asked])),
                _joined([r.cancelled for r in asked]),
                _us(_joined([r.known_hour for r in asked])),
            )
        await wait_visible(features, -1)
    return stored


async def play_hours(system: Connection, hours: range, days_per_second: float) -> Played:
    """Sends features, labels and requests hour by hour; one that is answered late delays the next.

    Args:
        system: Where to.
        hours: Which, counted from the start.
        days_per_second: How fast at most.
    """
    played = Played()
    async with (
        Source(system.addresses["kafka"], system.env, "play") as source,
        Features(system.addresses["feature-store"]) as features,
        Client(system.addresses["envoy"]) as client,
    ):
        for hour in hours:
            due = time.perf_counter() + 1 / 24 / days_per_second
            await asyncio.gather(
                publish(source, range(hour, hour + 1)),
                _report(client, hour, played),
                _ask(client, features, hour, played, 0.0 if played.rows else READY_SECONDS),
            )
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if hour % 240 == 239:
                typer.echo(f"day {hour // 24 + 1}: {played.rows} rows answered")
    return played


async def publish(source: Source, hours: range) -> None:
    """Publishes the activity that is observed in some hours."""
    # Each customer's activity is observed once a day, at an hour of their own.
    seen = [(hour, np.arange(hour % 24, CUSTOMERS, 24)) for hour in hours]
    await source.publish(
        VIEW,
        _us(np.concatenate([np.full(len(who), hour) for hour, who in seen])),
        {"customer": [f"c{number:03}" for _, who in seen for number in who]},
        {
            name: np.concatenate([activity(hour // 24)[name][who] for hour, who in seen])
            for name in activity(hours.start // 24)
        },
        watermark_us=int(_us(hours[-1])),
    )


async def wait_visible(features: Features, hour: int, within_s: float = 30.0) -> None:
    """Waits until the feature store knows all that was sent for an hour.

    Raises:
        TimeoutError: It does not come to know it.
    """
    wanted = int(_us(hour))
    async with asyncio.timeout(within_s):
        while True:
            marks = (await features.watermarks_us(FEATURE_SERVICE)).values()
            if marks and all(mark is not None and mark >= wanted for mark in marks):
                return
            await asyncio.sleep(0.01)


async def _ask(
    client: Client, features: Features, hour: int, played: Played, patience_s: float
) -> None:
    asked = renewals(hour)
    await wait_visible(features, hour - LAG_HOURS)
    until = time.perf_counter() + patience_s
    while True:
        try:
            answer = await client.predict(MODEL, asked.columns, event_time_us=int(_us(hour)))
            break
        except grpc.aio.AioRpcError as error:
            if time.perf_counter() > until:
                played.failed.append(f"hour {hour}: {error.code().name}: {error.details()}")
                return
        await asyncio.sleep(0.5)
    played.rows += len(asked.hour)
    who = (answer.version, answer.variant)
    if who not in played.versions:
        played.versions.add(who)
        typer.echo(f"day {hour / 24:.1f}: version {answer.version} answers as {answer.variant}")


async def _report(client: Client, hour: int, played: Played) -> None:
    """Reports the labels that become known in an hour; those of history came with it."""
    asked = [renewals(h) for h in range(max(0, hour - SLOWEST_LABEL_HOURS), hour)]
    labels = [
        Label(row_key=key, value=value, event_time_us=int(_us(hour)))
        for r in asked
        for key, value, known in zip(r.columns["renewal"], r.cancelled, r.known_hour, strict=True)
        if known == hour
    ]
    try:
        played.labels += await client.report_labels(MODEL, labels) if labels else 0
    except grpc.aio.AioRpcError as error:
        played.failed.append(f"labels of hour {hour}: {error.code().name}: {error.details()}")


def _joined(parts: Sequence[Any]) -> NDArray[Any]:
    return np.concatenate([np.asarray(part) for part in parts])


def _us(hour: Any) -> NDArray[np.int64]:
    """Returns microseconds since 1970 of hours since the start."""
    return int(START.timestamp()) * 1_000_000 + np.asarray(hour, np.int64) * HOUR_US


app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, rich_markup_mode=None)


@app.command()
def history(
    state: StateDir = DEFAULT_STATE,
    days: Annotated[int, typer.Option(min=1, help="How many days before the start.")] = 20,
) -> None:
    """Send features and labelled rows of the days before the start."""
    stored = asyncio.run(send_history(connect(state), days))
    typer.echo(f"{stored} rows of {days} days; train as of {START:%Y-%m-%d}")


@app.command()
def play(
    state: StateDir = DEFAULT_STATE,
    days: Annotated[int, typer.Option(min=1, help="How many days.")] = 60,
    first_day: Annotated[int, typer.Option(min=0, help="Go on from this day.")] = 0,
    days_per_second: Annotated[float, typer.Option(min=0.001, help="How fast at most.")] = 1.0,
) -> None:
    """Send features, requests and labels, hour by hour."""
    hours = range(24 * first_day, 24 * (first_day + days))
    begun = time.perf_counter()
    played = asyncio.run(play_hours(connect(state), hours, days_per_second))
    typer.echo(
        f"{played.rows} rows answered, {played.labels} labels reported, "
        f"{len(played.failed)} failed, {days / (time.perf_counter() - begun):.2f} days a second"
    )
    if played.failed:
        typer.echo("\n".join(played.failed[:5]), err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    try:
        app()
    except CicloError as error:
        typer.echo(f"play: {error.message}", err=True)
        sys.exit(1)
