"""Reads a stream into a sink and commits what the sink took, with the offsets, in the background.

A record's effect may be visible before it is committed; it is committed before its offset is. So a
crash costs reading again, and the tables refuse what they have.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import structlog
from aiokafka import TopicPartition

from ciclo.errors import Fatal, Reject
from ciclo_feature_store import wire
from ciclo_feature_store.adapters import state
from ciclo_feature_store.adapters.writer import Writer
from ciclo_feature_store.crash import FeatureStoreCrash
from ciclo_feature_store.metrics import FeatureStoreMetrics
from ciclo_runtime.backoff import Backoff
from ciclo_runtime.clock import Clock
from ciclo_runtime.crash import crash_point
from ciclo_runtime.database import Database
from ciclo_runtime.dead_letters import DeadLetters
from ciclo_runtime.lifecycle import Background
from ciclo_runtime.streams import StreamReader, StreamRecord

MOST_FAILURES = 5
"""Failed commits in a row after which the service stops: a fresh process reads everything again."""

BACKLOG_FACTOR = 5
"""Reading pauses when so many times `flush_rows` wait: memory is bounded while a disk is slow."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that cannot be stored, found while writing."""

    record: StreamRecord
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
    """What a stream's records become."""

    def take(self, record: StreamRecord) -> int:
        """Takes a record on the event loop. Returns its rows.

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
        topics: Full names of what `reader` reads.
        reader: Where records come from.
        sink: Where they go.
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
        reader: StreamReader,
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
        self._reader = reader
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
                await self._put_aside(refused.record, refused.error)
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
        reading = self._reader.batches(self._saved)
        async with aclosing(reading):
            async for batch in reading:
                await self._take(batch.records)
                self.positions |= batch.next_offsets
                async with self._moved:
                    self._moved.notify_all()
                if batch.is_caught_up:
                    self._caught_up.set()
                await self._flush_when_due()

    async def _take(self, records: Sequence[StreamRecord]) -> None:
        for record in records:
            try:
                self._rows += self._sink.take(record)
            except Reject as error:
                await self._put_aside(record, error)
                continue
            if isinstance(record.message, wire.FEATURE_EVENTS):
                delay = (self._clock.now() - record.time).total_seconds()
                self._metrics.visibility.observe(max(delay, 0.0))
        self._metrics.unflushed.labels(self.name).set(self._rows)

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

    async def _put_aside(self, record: StreamRecord, error: Reject) -> None:
        await self._dead_letters.put(_Letter.of(record), error, attempts=1)


@dataclass(frozen=True, slots=True)
class _Letter:
    """A decoded record as Kafka gave it, which is what dead letters keep."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]

    @classmethod
    def of(cls, record: StreamRecord) -> Any:
        sent = wire.as_sent(record.envelope, record.message)
        return cls(record.topic, record.partition, record.offset, **sent)
