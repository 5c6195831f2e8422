"""Reads a stream into a sink and commits what the sink took, with the offsets, in the background.

A record's effect may be visible before it is committed; it is committed before its offset is. So a
crash costs reading again, and the tables refuse what they have.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import structlog
from aiokafka import ConsumerRecord, TopicPartition
from google.protobuf.message import Message

from ciclo.errors import Fatal, Reject, Retry
from ciclo_feature_store import wire
from ciclo_feature_store.adapters import state
from ciclo_feature_store.adapters.events import Event, blaming_the_record, read_event
from ciclo_feature_store.adapters.writer import Writer
from ciclo_feature_store.crash import FeatureStoreCrash
from ciclo_feature_store.metrics import FeatureStoreMetrics
from ciclo_runtime.backoff import DEFAULT_BACKOFF, Backoff
from ciclo_runtime.clock import Clock
from ciclo_runtime.crash import crash_point
from ciclo_runtime.database import Database
from ciclo_runtime.dead_letters import DeadLetters
from ciclo_runtime.lifecycle import Background
from ciclo_runtime.streams import Fetched, Offsets

MOST_FAILURES = 5
"""Failed commits in a row after which the service stops: a fresh process reads everything again."""

BACKLOG_FACTOR = 5
"""Reading pauses when so many times `flush_rows` wait: memory is bounded while a disk is slow."""

Follow = Callable[[Offsets], AsyncGenerator[Fetched, None]]
"""Hands out the records of a stream from some offsets on, for ever; see `streams.follow`."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that cannot be stored, found while writing."""

    event: Event
    error: Reject


class Flush(Protocol):
    """What a sink took since the last flush."""

    @property
    def watermarks_us(self) -> Mapping[str, int]:
        """How far views are known with these rows."""
        ...

    def write(self) -> Sequence[Refused]:
        """Commits it; called in the writer's thread, again if it fails."""
        ...


class Sink(Protocol):
    """What a stream's events become."""

    def take(self, event: Event) -> int:
        """Takes an event on the event loop, from its content alone. Returns its rows.

        Raises:
            Reject: It is bad; nothing of it was taken.
        """
        ...

    def drain(self) -> Flush:
        """Returns what was taken since the last call."""
        ...


class Recording(Background):
    """A part that follows some topics into a sink.

    Args:
        name: Of the stream, for metrics and log lines.
        topics: Full names of what `follow` reads.
        types: Which events are taken; others on these topics are skipped.
        follow: Where records come from.
        sink: Where events go.
        database: Holds the positions.
        writer: Where commits run.
        dead_letters: Take bad records.
        metrics: Show delay and duration.
        clock: Times flushes.
        flush_interval: Greatest wall time between two flushes while records come.
        flush_rows: Rows that are flushed at once.
    """

    def __init__(
        self,
        name: str,
        topics: Sequence[str],
        types: Sequence[type[Message]],
        follow: Follow,
        sink: Sink,
        *,
        database: Database,
        writer: Writer,
        dead_letters: DeadLetters,
        metrics: FeatureStoreMetrics,
        clock: Clock,
        flush_interval: timedelta,
        flush_rows: int,
    ) -> None:
        super().__init__(name)
        self.positions: dict[TopicPartition, int] = {}
        self.topics = topics
        self._types = frozenset(kind.DESCRIPTOR.full_name for kind in types)
        self._follow = follow
        self._sink = sink
        self._database = database
        self._writer = writer
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._clock = clock
        self._interval = flush_interval
        self._most_rows = flush_rows
        self._saved: dict[TopicPartition, int] = {}
        self._rows = 0
        self._flushed_at = 0.0
        self._flushing: asyncio.Task[None] | None = None
        self._one_flush = asyncio.Lock()
        self._moved = asyncio.Condition()
        self._caught_up = asyncio.Event()

    async def start(self) -> None:
        """Begins to read where the tables end, and returns when nothing newer is there."""
        self._saved = await self._database.read(lambda c: state.positions(c, self.topics))
        self.positions = dict(self._saved)
        self._flushed_at = self._clock.monotonic()
        await super().start()
        caught_up = asyncio.ensure_future(self._caught_up.wait())
        died = asyncio.ensure_future(self.wait())
        try:
            await asyncio.wait({caught_up, died}, return_when=asyncio.FIRST_COMPLETED)
            if died.done():
                died.result()
        finally:
            caught_up.cancel()
            died.cancel()

    async def stop(self) -> None:
        """Ends reading and commits what was taken."""
        await super().stop()
        if self._flushing:
            await asyncio.wait([self._flushing])
        await self.flush()

    async def read_until(self, ends: Mapping[TopicPartition, int]) -> None:
        """Returns once everything before some offsets is taken and committed."""

        def is_there() -> bool:
            return all(self.positions.get(place, 0) >= end for place, end in ends.items())

        async with self._moved:
            await self._moved.wait_for(is_there)
        await self.flush()

    async def flush(self) -> None:
        """Commits what was taken so far.

        Raises:
            Fatal: It failed too often.
        """
        async with self._one_flush:
            taken, positions, rows = self._sink.drain(), dict(self.positions), self._rows
            if positions == self._saved:
                return
            started = self._clock.monotonic()
            crash_point(FeatureStoreCrash.FLUSH_BEFORE_APPEND)
            for refused in await self._write(taken):
                await self._put_aside(refused.event.record, refused.error)
            crash_point(FeatureStoreCrash.FLUSH_AFTER_APPEND)
            await self._database.transaction(
                lambda tx: state.save(tx, positions, taken.watermarks_us)
            )
            crash_point(FeatureStoreCrash.FLUSH_AFTER_STATE)
            self._saved = positions
            self._rows -= rows
            self._flushed_at = self._clock.monotonic()
            self._metrics.unflushed.labels(self.name).set(self._rows)
            self._metrics.flush.labels(self.name).observe(self._flushed_at - started)

    async def run(self) -> None:
        """Follows the topics."""
        async with aclosing(self._follow(self._saved)) as following:
            async for fetched in following:
                for record in fetched.records:
                    await self._take(record)
                    place = TopicPartition(record.topic, record.partition)
                    self.positions[place] = record.offset + 1
                self._metrics.unflushed.labels(self.name).set(self._rows)
                async with self._moved:
                    self._moved.notify_all()
                if fetched.is_caught_up:
                    self._caught_up.set()
                await self._flush_when_due()

    async def _take(self, record: ConsumerRecord) -> None:
        try:
            event = read_event(record, self._types)
            if event is None:
                return
            with blaming_the_record():
                self._rows += self._sink.take(event)
        except Reject as error:
            await self._put_aside(record, error)
            return
        self._dead_letters.passed()
        if isinstance(event.message, wire.FEATURE_EVENTS):
            self._metrics.visibility.observe(event.age_seconds(self._clock.now()))

    async def _flush_when_due(self) -> None:
        if self._flushing and self._flushing.done():
            self._flushing.result()
            self._flushing = None
        waited = self._clock.monotonic() - self._flushed_at
        is_due = waited >= self._interval.total_seconds() or self._rows >= self._most_rows
        if is_due and not self._flushing and self.positions != self._saved:
            self._flushing = asyncio.create_task(self.flush(), name=f"{self.name} flush")
        if self._flushing and self._rows >= self._most_rows * BACKLOG_FACTOR:
            await asyncio.wait([self._flushing])

    async def _write(self, taken: Flush) -> Sequence[Refused]:
        backoff, rng, failures = Backoff(), random.Random(), 0
        while True:
            try:
                return await self._writer.run(taken.write)
            except Exception as error:
                failures += 1
                if failures >= MOST_FAILURES:
                    raise Fatal(
                        f"{self.name}: tables could not be written {failures} times in a row, the "
                        f"last time: {error!r}; nothing is lost, a restart reads it again",
                        reason="TABLES_UNWRITABLE",
                    ) from error
                _log.exception("flush_failed", stream=self.name, attempt=failures)
                await self._clock.sleep(backoff.delay(failures, rng))

    async def _put_aside(self, record: ConsumerRecord, error: Reject) -> None:
        rng, attempt = random.Random(), 0
        while True:
            try:
                await self._dead_letters.put(record, error, attempts=1)
                return
            except Retry as waiting:
                attempt += 1
                _log.warning("dead_letter_waits", error=repr(waiting), attempt=attempt)
                await self._clock.sleep(DEFAULT_BACKOFF.delay(attempt, rng))
