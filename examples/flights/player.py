"""Plays a world into Ciclo through public interfaces, hour by hour, at constant speed.

An hour's requests are sent once its features are visible up to that hour less the knowledge lag:
speed must manufacture no skew. Where the player has to wait for that, its clock stands still and
`waited_s` says for how long. Over 300 lines: what an hour holds and how it is sent share one clock.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import grpc.aio
import numpy as np
import tritonclient.grpc.aio as triton
from flights import COLUMNS, DAY_US, ENTITIES, HOUR_US, World
from tritonclient.utils import InferenceServerException

from ciclo.client import Client, Features, Source
from ciclo.events.v1.labels_reported_pb2 import Label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

MODEL: Final = "flight-delay"
FEATURE_SERVICE: Final = "flight_delay"
REQUEST_COLUMNS: Final = ("flight", "origin", "carrier", "dest", "distance", "scheduled_departure")

TENSOR_SHARE: Final = 5
"""One request in so many is sent by tensor, with plain tritonclient."""

IN_FLIGHT: Final = 32
"""Requests that wait for an answer at once."""

LOOK_SECONDS: Final = 0.02
"""Between two looks at the watermarks; an hour takes 42 ms at a day a second."""

CHUNK_ROWS: Final = 10_000
"""Rows of history in one call."""

Columns = dict[str, Any]
"""Columns by name, of equal length."""

TENSOR_TYPES: Final = {"BYTES": np.object_, "FP32": np.float32, "INT64": np.int64}


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was answered.

    Args:
        caller_id: Prediction id, or, by tensor, the caller's own request id.
        by_tensor: It was sent with tritonclient.
        event_time_us: Of the request.
        rows: How many.
    """

    caller_id: str
    by_tensor: bool
    event_time_us: int
    rows: int


@dataclass(slots=True)
class Played:
    """What the player did. Times in seconds of wall time."""

    rows_due: int = 0
    rows_answered: int = 0
    labels_due: int = 0
    labels_reported: int = 0
    failed: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    waited_s: float = 0.0
    seconds: float = 0.0
    event_start_us: int = 0
    event_end_us: int = 0

    @property
    def days_per_second(self) -> float:
        """Event days per second of wall time."""
        return (self.event_end_us - self.event_start_us) / DAY_US / max(self.seconds, 1e-9)


@dataclass(slots=True)
class Hour:
    """What is sent at one full hour: rows by view, labels, and a request for each origin."""

    features: dict[str, Columns] = field(default_factory=dict)
    labels: list[Label] = field(default_factory=list)
    requests: list[Columns] = field(default_factory=list)


NOTHING: Final = Hour()
"""An hour in which nothing happens."""


class Player:
    """Sends history, then plays.

    Args:
        addresses: Of the system, by what answers there.
        env: Environment's name.
        knowledge_lag_us: As the loop declares it.
    """

    def __init__(self, addresses: Mapping[str, str], env: str, knowledge_lag_us: int) -> None:
        self.played = Played()
        self._addresses = addresses
        self._env = env
        self._lag_us = knowledge_lag_us
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._visible_us: dict[str, int | None] = {}
        self._numbers = 0

    async def __aenter__(self) -> Self:
        """Connects."""
        self._stack = AsyncExitStack()
        enter = self._stack.enter_async_context
        self._client = await enter(Client(self._addresses["envoy"]))
        self._features = await enter(Features(self._addresses["feature-store"]))
        self._source = await enter(Source(self._addresses["kafka"], self._env, "airports"))
        self._triton = await enter(triton.InferenceServerClient(self._addresses["envoy"]))
        return self

    async def __aexit__(self, *error: object) -> None:
        """Closes the connections."""
        await self._stack.aclose()

    async def send_history(self, world: World, until_us: int) -> int:
        """Publishes features and imports labelled flights from before `until_us`.

        Returns:
            How many flights were imported.
        """
        past = world.between(0, until_us)
        for view, rows in past.features.items():
            for _, week in rows.groupby(rows["event_time_us"] // (7 * DAY_US)):
                await self._publish(view, _columns(week, week.columns))
        flights = past.requests.merge(
            world.labels[["flight", "late", "known_time_us"]], on="flight", how="left"
        )
        stored = 0
        for first in range(0, len(flights), CHUNK_ROWS):
            chunk = flights.iloc[first : first + CHUNK_ROWS]
            stored += await self._features.import_observations(
                MODEL,
                f"history-{until_us}-{first}",
                _columns(chunk, REQUEST_COLUMNS),
                chunk["event_time_us"].to_numpy(),
                chunk["late"].to_numpy(np.float64),
                chunk["known_time_us"].fillna(0).to_numpy(np.int64),
            )
        await self.wait_visible(until_us - HOUR_US - self._lag_us)
        return stored

    async def restate(
        self, features: Mapping[str, pd.DataFrame], since_us: int, until_us: int
    ) -> None:
        """Publishes another version of past rows, as a backfill does."""
        for view, rows in features.items():
            chosen = rows[rows["event_time_us"].between(since_us, until_us, inclusive="left")]
            for _, week in chosen.groupby(chosen["event_time_us"] // (7 * DAY_US)):
                await self._publish(view, _columns(week, week.columns), with_watermark=False)

    async def play(
        self,
        world: World,
        start_us: int,
        end_us: int,
        days_per_second: float,
        on_hour: Callable[[int], None] = lambda _: None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> Played:
        """Plays [start_us, end_us).

        Args:
            world: What happens.
            start_us: First hour.
            end_us: Hour after the last one.
            days_per_second: Speed of the event clock.
            on_hour: Told each hour before it is played.
            is_over: Asked before each hour; ends the play early.
        """
        hours = _by_hour(world.between(start_us, end_us), start_us)
        played = self.played
        played.event_start_us = start_us
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(self._look())
            for number, now_us in enumerate(range(start_us, end_us, HOUR_US)):
                due = begun + played.waited_s + number / 24 / days_per_second
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                if is_over():
                    break
                played.event_end_us = now_us + HOUR_US
                on_hour(now_us)
                await self._play_hour(hours, now_us, tasks)
            looking.cancel()
        played.seconds = time.perf_counter() - begun
        return played

    async def wait_visible(self, time_us: int, within_s: float = 30.0) -> float:
        """Waits until every view is visible up to a time; returns the seconds that it took.

        Raises:
            TimeoutError: It is not.
        """
        begun = time.perf_counter()
        while not self._is_visible(time_us):
            self._visible_us = await self._features.watermarks_us(FEATURE_SERVICE)
            if time.perf_counter() - begun > within_s:
                raise TimeoutError(f"features are visible up to {self._visible_us}, not {time_us}")
        return time.perf_counter() - begun

    async def _look(self) -> None:
        """Looks at the watermarks all the time, so that a request waits only if it must."""
        while True:
            self._visible_us = await self._features.watermarks_us(FEATURE_SERVICE)
            await asyncio.sleep(LOOK_SECONDS)

    def _is_visible(self, time_us: int) -> bool:
        seen = self._visible_us.values()
        return bool(seen) and all(mark is not None and mark >= time_us for mark in seen)

    async def _play_hour(
        self, hours: Mapping[int, Hour], now_us: int, tasks: asyncio.TaskGroup
    ) -> None:
        hour = hours.get(now_us, NOTHING)
        for view, rows in hour.features.items():
            tasks.create_task(self._publish(view, rows))
        if hour.labels:
            tasks.create_task(self._report(hour.labels))
        if not hour.requests:
            return
        self.played.waited_s += await self.wait_visible(now_us - self._lag_us)
        for asked in hour.requests:
            await self._slots.acquire()
            self._numbers += 1
            by_tensor = self._numbers % TENSOR_SHARE == 0
            send = self._ask_by_tensor if by_tensor else self._ask_by_entity
            tasks.create_task(self._ask(send, asked, now_us))

    async def _publish(self, view: str, rows: Columns, *, with_watermark: bool = True) -> None:
        times = rows["event_time_us"]
        await self._source.publish(
            view,
            times,
            {ENTITIES[view]: rows[ENTITIES[view]]},
            {name: rows[name] for name in COLUMNS[view]},
            watermark_us=int(times.max()) if with_watermark else None,
        )

    async def _report(self, labels: Sequence[Label]) -> None:
        self.played.labels_due += len(labels)
        try:
            self.played.labels_reported += await self._client.report_labels(MODEL, labels)
        except grpc.aio.AioRpcError as error:
            self.played.failed.append(f"labels: {error.code().name}: {error.details()}")

    async def _ask(self, send: Any, asked: Columns, now_us: int) -> None:
        self.played.rows_due += len(asked["flight"])
        try:
            call = await send(asked, now_us)
            self.played.rows_answered += call.rows
            self.played.calls.append(call)
        except grpc.aio.AioRpcError as error:
            self.played.failed.append(f"by entity: {error.code().name}: {error.details()}")
        except InferenceServerException as error:
            self.played.failed.append(f"by tensor: {error}")
        finally:
            self._slots.release()

    async def _ask_by_entity(self, asked: Columns, now_us: int) -> Call:
        answer = await self._client.predict(MODEL, asked, event_time_us=now_us)
        return _answered(answer.prediction_id, False, now_us, asked, answer.outputs["late"])

    async def _ask_by_tensor(self, asked: Columns, now_us: int) -> Call:
        entities = {name: asked[name] for name in ("origin", "carrier")}
        known = await self._features.online(
            FEATURE_SERVICE, entities, as_of_us=now_us - self._lag_us
        )
        caller_id = str(uuid.uuid4())
        answer = await self._triton.infer(
            MODEL,
            await self._tensors({**asked, **known}),
            request_id=caller_id,
            headers={"x-ciclo-event-time": str(now_us)},
            client_timeout=10.0,
        )
        return _answered(caller_id, True, now_us, asked, answer.as_numpy("late"))

    async def _tensors(self, columns: Mapping[str, Any]) -> list[triton.InferInput]:
        if not hasattr(self, "_inputs"):
            metadata = await self._triton.get_model_metadata(MODEL)
            self._inputs = [(found.name, found.datatype) for found in metadata.inputs]
        tensors = []
        for name, datatype in self._inputs:
            values: NDArray[Any] = np.asarray(columns[name], TENSOR_TYPES[datatype]).reshape(-1, 1)
            tensor = triton.InferInput(name, list(values.shape), datatype)
            tensors.append(tensor.set_data_from_numpy(values))
        return tensors


def _answered(
    caller_id: str, by_tensor: bool, now_us: int, asked: Columns, scores: NDArray[Any] | None
) -> Call:
    rows = len(asked["flight"])
    if scores is None or scores.size != rows or not bool(np.isfinite(scores).all()):
        raise InferenceServerException(f"{rows} rows were asked, the answer is {scores}")
    return Call(caller_id, by_tensor, now_us, rows)


def _columns(rows: pd.DataFrame, names: Iterable[str]) -> Columns:
    return {n: rows[n].tolist() if rows[n].dtype == object else rows[n].to_numpy() for n in names}


def _by_hour(world: World, start_us: int) -> dict[int, Hour]:
    """Returns what the player sends at each full hour, ready to be sent."""
    found: dict[int, Hour] = defaultdict(Hour)

    def cut(rows: pd.DataFrame, column: str) -> Iterable[tuple[Any, pd.DataFrame]]:
        # What becomes known within an hour is sent at the next full one.
        hour = start_us - (start_us - rows[column]) // HOUR_US * HOUR_US
        return rows.groupby(hour.to_numpy())

    for view, features in world.features.items():
        for hour, rows in cut(features, "event_time_us"):
            found[hour].features[view] = _columns(rows, rows.columns)
    for hour, rows in cut(world.labels, "known_time_us"):
        stated = zip(rows["flight"], rows["late"], rows["known_time_us"], strict=True)
        found[hour].labels.extend(
            Label(row_key=flight, value=float(late), event_time_us=known)
            for flight, late, known in stated
        )
    for hour, rows in cut(world.requests, "event_time_us"):
        by_origin = rows.groupby("origin", sort=True)
        found[hour].requests.extend(_columns(part, REQUEST_COLUMNS) for _, part in by_origin)
    return dict(found)
