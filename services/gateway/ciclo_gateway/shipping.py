"""The shipper: what Envoy wrote to the spool becomes `PredictionsServed`, once and whole.

A range of bytes is written down, sent, and written off. Whatever kills it in between, the next try
makes the same events of the same bytes, asks the topic which of them arrived, and sends the others.
Just over 300 lines: every step is one that something may die between.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum, unique
from typing import Final

import structlog

from ciclo.errors import Retry
from ciclo_gateway.catalog import Catalog
from ciclo_gateway.domain.packing import Answer, Version, pack
from ciclo_gateway.domain.spool import UnreadableLine, model_of, parse_line
from ciclo_gateway.metrics import GatewayMetrics
from ciclo_gateway.ports.shipping import (
    Loss,
    Outgoing,
    PredictionsTopic,
    Range,
    Segment,
    ShippingLedger,
    Spool,
)
from ciclo_gateway.wire import events, inference
from ciclo_runtime.backoff import Backoff
from ciclo_runtime.clock import Clock
from ciclo_runtime.crash import crash_point
from ciclo_runtime.lifecycle import Background

RANGE_BYTES: Final = 2**20
"""Greatest range. The longest line has about 700 KB: in base64, two payloads at capture's limit."""

PLENTY_BYTES: Final = RANGE_BYTES // 4
"""A range of at least this size is followed by the next at once: the shipper is behind."""

BACKOFF: Final = Backoff(first=timedelta(milliseconds=100), cap=timedelta(seconds=5))
"""Waits while Kafka is away."""

_log = structlog.get_logger(__name__)


Positions = Mapping[int, tuple[int, int]]
"""Id and next byte of each segment, by inode."""


@unique
class ShippingCrash(StrEnum):
    """Moments at which a test may kill the process."""

    AFTER_BEGIN = "shipping.after_begin"
    AFTER_SEND = "shipping.after_send"
    AFTER_END = "shipping.after_end"


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """How large the spool may grow.

    Attributes:
        segment_bytes: A file that is larger is rotated.
        total_bytes: Above it, shipped files are deleted, oldest first; if that is not enough,
            whole files that were not shipped are dropped and counted.
    """

    segment_bytes: int
    total_bytes: int


class Shipper(Background):
    """The part that ships.

    Args:
        spool: What Envoy wrote.
        ledger: How far it is shipped.
        topic: Where it goes.
        catalog: Names versions.
        limits: Of the spool.
        poll_interval: How often the spool is looked at, unless there is plenty to ship: a range is
            two transactions here and a message for every reader, so a trickle is gathered first.
        metrics: Counts.
        clock: Waits.
        rng: Jitter of the waits.
    """

    def __init__(
        self,
        spool: Spool,
        ledger: ShippingLedger,
        topic: PredictionsTopic,
        catalog: Catalog,
        *,
        limits: SpoolLimits,
        poll_interval: timedelta,
        metrics: GatewayMetrics,
        clock: Clock,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__("shipper")
        self._spool = spool
        self._ledger = ledger
        self._topic = topic
        self._catalog = catalog
        self._limits = limits
        self._poll_interval = poll_interval
        self._metrics = metrics
        self._clock = clock
        self._rng = rng or random.Random()
        self._is_in_doubt = True
        self._topic_end: int | None = None

    async def run(self) -> None:
        """Ships for ever."""
        failures = 0
        while True:
            try:
                shipped_bytes = await self.step()
                failures = 0
                if shipped_bytes < PLENTY_BYTES:
                    await self._clock.sleep(self._poll_interval)
            except Retry as error:
                failures += 1
                self._is_in_doubt = True
                self._metrics.shipping_retries.inc()
                _log.warning("shipping_waits", error=str(error), attempt=failures)
                await self._clock.sleep(BACKOFF.delay(failures, self._rng))

    async def step(self) -> int:
        """Ships one range, if there is any; returns its size in bytes.

        Raises:
            Retry: Kafka, the disk or the database is away. What was begun is finished by a later
                step.
        """
        # First, since a spool fills up just when Kafka is away.
        segments, positions = await self._keep_within_limits()
        if self._is_in_doubt:
            begun = await self._ledger.in_flight()
            if begun is not None:
                await self._finish(begun)
                positions = await self._ledger.positions(segments)
            self._is_in_doubt = False
        for segment in segments:
            segment_id, next_byte = positions[segment.inode]
            content = await self._next_range(segment, next_byte)
            if content:
                begun = await self._begin(segment, segment_id, next_byte, len(content))
                await self._publish(begun, content, frozenset())
                return len(content)
        return 0

    async def _next_range(self, segment: Segment, start: int) -> bytes:
        """Returns whole lines; or, at the end of a closed file, the torn rest of it."""
        if start >= segment.size_bytes:
            return b""
        content = await self._spool.read(segment.name, start, RANGE_BYTES)
        end = content.rfind(b"\n") + 1
        if end:
            return content[:end]
        # No line ends here: it is still being written, or torn, or beyond any length we know.
        return content if segment.is_closed or len(content) == RANGE_BYTES else b""

    async def _begin(self, segment: Segment, segment_id: int, start: int, size: int) -> Range:
        if self._topic_end is None:
            self._topic_end = await self._topic.end()
        begun = await self._ledger.begin(
            segment_id, segment.name, start, start + size, self._topic_end
        )
        self._is_in_doubt = True  # until it is ended, whatever happens
        crash_point(ShippingCrash.AFTER_BEGIN)
        return begun

    async def _finish(self, begun: Range) -> None:
        """Ends a range that an earlier step or process began."""
        for segment in await self._spool.segments():
            positions = await self._ledger.positions([segment])
            if positions[segment.inode][0] == begun.segment_id:
                size = begun.end - begun.start
                content = await self._spool.read(segment.name, begun.start, size)
                arrived = await self._topic.ids_since(begun.topic_offset)
                await self._publish(begun, content, arrived)
                return
        _log.error("spool_segment_gone", segment=begun.name, start=begun.start, end=begun.end)
        lost = Loss("-", "UNREADABLE_RECORD", 1, f"{begun.name}:{begun.start}-{begun.end}")
        await self._ledger.end(begun, [lost], {})

    async def _publish(self, begun: Range, content: bytes, arrived: frozenset[str]) -> None:
        outgoing, losses = await asyncio.to_thread(self._events_of, begun, content)
        missing = [event for event in outgoing if event.id not in arrived]
        if missing:
            self._topic_end = await self._topic.send(missing)
        crash_point(ShippingCrash.AFTER_SEND)
        await self._ledger.end(begun, losses, _newest(outgoing))
        self._is_in_doubt = False
        crash_point(ShippingCrash.AFTER_END)
        self._metrics.answers_shipped.inc(sum(len(e.message.prediction_ids) for e in outgoing))
        for loss in losses:
            self._metrics.answers_lost.labels(loss.reason).inc(loss.count)

    def _events_of(self, begun: Range, content: bytes) -> tuple[list[Outgoing], list[Loss]]:
        """Returns what a range becomes: the same for the same range."""
        answers: list[tuple[Version, str, Answer]] = []
        lost: Counter[tuple[str, str]] = Counter()
        for line in content.split(b"\n"):
            if not line:
                continue
            try:
                call = parse_line(line)
            except UnreadableLine as error:
                _log.warning("spool_line_lost", reason=error.reason, error=error.message)
                lost[error.model, error.reason] += 1
                continue
            if call is not None:
                version, signature = self._catalog.version(call.model, call.version)
                answer = inference.to_answer(call, signature)
                answers.append((version, call.variant, answer))
        place = f"{begun.name.removesuffix('.log')}:{begun.segment_id}:{begun.start}-{begun.end}"
        outgoing = []
        for number, batch in enumerate(pack(answers)):
            version, variant, *_ = batch.kind
            batch_id = f"{place}/{number}"
            message = events.predictions_served(batch_id, version, variant, batch.answers)
            outgoing.append(Outgoing(batch_id, version.model, begun.begin_time, message))
        return outgoing, _losses(lost, place)

    async def _keep_within_limits(self) -> tuple[list[Segment], Positions]:
        """Rotates what is too long, deletes what is shipped and too much, drops what is too much.

        Returns:
            The segments that are left, and how far they are shipped.
        """
        segments = await self._spool.segments()
        positions = await self._ledger.positions(segments)
        if segments and (
            segments[-1].size_bytes > self._limits.segment_bytes or _is_renamed(segments[-1])
        ):
            await self._rotate(segments[-1])
            segments = await self._spool.segments()  # their names have changed
            positions = await self._ledger.positions(segments)
        left = list(segments)
        for segment in segments[:-1]:
            if sum(s.size_bytes for s in left) <= self._limits.total_bytes:
                break
            segment_id, next_byte = positions[segment.inode]
            if not segment.is_closed:
                break
            if next_byte < segment.size_bytes:
                await self._drop(segment, segment_id, next_byte)
            await self._spool.delete(segment.name)
            await self._ledger.forget(segment_id)
            left.remove(segment)
        unshipped = sum(s.size_bytes - positions[s.inode][1] for s in left)
        self._metrics.spool_bytes.set(sum(s.size_bytes for s in left))
        self._metrics.unshipped_bytes.set(unshipped)
        return left, positions

    async def _rotate(self, segment: Segment) -> None:
        try:
            await self._spool.rotate(segment)
        except (Retry, FileNotFoundError) as error:
            # Envoy goes on with the file that it has; shipping must, too.
            _log.warning("spool_not_rotated", segment=segment.name, error=str(error))

    async def _drop(self, segment: Segment, segment_id: int, next_byte: int) -> None:
        lost: Counter[tuple[str, str]] = Counter()
        start = next_byte
        while content := await self._spool.read(segment.name, start, RANGE_BYTES):
            end = content.rfind(b"\n") + 1 or len(content)
            for line in content[:end].split(b"\n"):
                if line and (model := model_of(line.split(b" ", 10))) != "-":
                    lost[model, "SPOOL_FULL"] += 1
            start += end
        place = f"{segment.name}:{segment_id}:{next_byte}-{segment.size_bytes}"
        losses = _losses(lost, place)
        _log.error("spool_full", segment=segment.name, lost=sum(lost.values()))
        await self._ledger.drop(segment_id, segment.size_bytes, losses)
        for loss in losses:
            self._metrics.answers_lost.labels(loss.reason).inc(loss.count)


def _losses(lost: Counter[tuple[str, str]], place: str) -> list[Loss]:
    return [Loss(model, reason, count, place) for (model, reason), count in sorted(lost.items())]


def _newest(outgoing: Sequence[Outgoing]) -> dict[str, int]:
    """Returns the greatest event time of each model. Microseconds."""
    newest: dict[str, int] = {}
    for event in outgoing:
        newest[event.model] = max(newest.get(event.model, 0), *event.message.event_time_us)
    return newest


def _is_renamed(segment: Segment) -> bool:
    """Tells whether a rotation was begun, and Envoy has not made the new file yet."""
    return "." in segment.name.removesuffix(".log")
