"""The shadow worker: asks a rollout's other version what callers asked, a moment or a day later.

It reads captured requests from the topic, from the time on that the rollout names, and keeps its
place with the answers it publishes. It asks a Triton of its own: it can neither slow nor fail what
serves.
"""

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import structlog

from ciclo.errors import Reject, Retry
from ciclo_gateway.catalog import Catalog
from ciclo_gateway.domain.desired import Desired, Placement, Rollout
from ciclo_gateway.domain.packing import Answer, Version
from ciclo_gateway.domain.shadow import Record, chunks, requests_to_ask, version_to_ask
from ciclo_gateway.domain.tensors import Tensor
from ciclo_gateway.metrics import GatewayMetrics
from ciclo_gateway.ports.control import ModelServer
from ciclo_gateway.ports.shadowing import Offsets, Replay, ShadowAnswers, ShadowBook
from ciclo_gateway.wire import inference
from ciclo_runtime.backoff import Backoff
from ciclo_runtime.clock import Clock
from ciclo_runtime.lifecycle import Background

BACKOFF: Final = Backoff(first=timedelta(milliseconds=200), cap=timedelta(seconds=5))
"""Waits while the shadow Triton is away or still loads."""

LOOK_EVERY: Final = timedelta(seconds=1)
"""How often rollouts are looked for."""

REFUSED: Final = 3
"""gRPC status of a question that the version refuses: INVALID_ARGUMENT."""

MICROSECONDS: Final = 1_000_000

_log = structlog.get_logger(__name__)


class _Over(Exception):
    """The rollout ended."""


class ShadowWorker(Background):
    """The part that asks again, for every rollout that is under way.

    Args:
        catalog: Which rollouts there are, and what the shadow Triton answers for.
        replay: Captured requests.
        server: The shadow Triton.
        book: Keeps the place, publishes the answers.
        rows_per_second: How fast at most.
        chunk_rows: Rows asked at once.
        metrics: Counts.
        clock: Waits.
        rng: Jitter of the waits.
    """

    def __init__(
        self,
        catalog: Catalog,
        replay: Replay,
        server: ModelServer,
        book: ShadowBook,
        *,
        rows_per_second: float,
        chunk_rows: int,
        metrics: GatewayMetrics,
        clock: Clock,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__("shadow worker")
        self._catalog = catalog
        self._replay = replay
        self._server = server
        self._book = book
        self._rows_per_second = rows_per_second
        self._chunk_rows = chunk_rows
        self._metrics = metrics
        self._clock = clock
        self._rng = rng or random.Random()
        self._free_at = 0.0

    async def run(self) -> None:
        """Follows each rollout in a task of its own until it ends."""
        following: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                for desired in self._catalog.desired.values():
                    if desired.rollout and desired.rollout.id not in following:
                        following[desired.rollout.id] = tasks.create_task(
                            self.follow(desired.model, desired.rollout.id)
                        )
                following = {key: task for key, task in following.items() if not task.done()}
                await self._clock.sleep(LOOK_EVERY)

    async def follow(self, model: str, rollout_id: str) -> None:
        """Asks what was asked of a model again, until its rollout ends."""
        try:
            _, rollout = self._under_way(model, rollout_id)
            offsets = await self._book.offsets(rollout_id, model, rollout.shadow_since_us)
            _log.info("shadow_follows", model=model, rollout=rollout_id, offsets=dict(offsets))
            async for records, next_offsets in self._replay.batches(offsets):
                self._under_way(model, rollout_id)
                answers = [
                    answer
                    for record in records
                    if record.version.model == model
                    for answer in await self._again(record, model, rollout_id)
                ]
                if next_offsets:
                    await self._store(rollout_id, next_offsets, answers, rollout.cycle_id)
        except _Over:
            _log.info("shadow_ends", model=model, rollout=rollout_id)

    async def _again(self, record: Record, model: str, rollout_id: str) -> list[ShadowAnswers]:
        """Asks what a batch holds again, until it is answered or the rollout ends."""
        attempt = 0
        while True:
            desired, rollout = self._under_way(model, rollout_id)
            asked = version_to_ask(record, desired)
            if asked is None:
                return []
            try:
                return await self._ask(record, rollout, asked)
            except Retry as error:
                attempt += 1
                _log.warning("shadow_waits", model=model, error=error.message, attempt=attempt)
                await self._clock.sleep(BACKOFF.delay(attempt, self._rng))

    async def _ask(self, record: Record, rollout: Rollout, asked: Version) -> list[ShadowAnswers]:
        chosen = requests_to_ask(record, rollout.shadow_since_us)
        if not chosen:
            return []
        answering = self._catalog.answering.get((Placement.SHADOW, asked.model), frozenset())
        if asked.number not in answering:
            raise Retry(f"version {asked.number} is not loaded for shadows yet")
        variant = "challenger" if asked.number == rollout.challenger.number else "champion"
        answers = []
        for number, group in enumerate(chunks(record.row_counts, chosen, self._chunk_rows)):
            suffix = f".{number}" if number else ""
            batch_id = f"shadow:{rollout.id}:{record.offset}{suffix}"
            answered = await self._ask_group(record, asked, group)
            answers.append(ShadowAnswers(batch_id, asked, variant, answered))
        return answers

    async def _ask_group(
        self, record: Record, asked: Version, group: Sequence[int]
    ) -> list[Answer]:
        """Asks some requests at once; if together they are refused, one by one."""
        counts = [record.row_counts[index] for index in group]
        await self._throttle(sum(counts))
        inputs = inference.select(record.inputs, record.row_counts, group)
        each = inference.split(inputs, counts)
        began = self._clock.monotonic()
        try:
            outputs = await self._server.infer(asked.model, asked.number, inputs)
            parts = inference.split(outputs, counts)
        except Reject as error:
            if len(group) > 1:
                return [
                    answer
                    for index in group
                    for answer in await self._ask_group(record, asked, [index])
                ]
            self._metrics.shadow_failures.inc()
            _log.warning("shadow_refused", id=record.prediction_ids[group[0]], error=error.message)
            return [self._answer(record, group[0], each[0], (), 0, REFUSED)]
        duration_us = int((self._clock.monotonic() - began) * MICROSECONDS)
        self._metrics.shadow_rows.labels(asked.model).inc(sum(counts))
        return [
            self._answer(record, index, asked_of, got, duration_us, 0)
            for index, asked_of, got in zip(group, each, parts, strict=True)
        ]

    def _answer(
        self,
        record: Record,
        index: int,
        inputs: tuple[Tensor, ...],
        outputs: tuple[Tensor, ...],
        duration_us: int,
        status: int,
    ) -> Answer:
        return Answer(
            prediction_id=record.prediction_ids[index],
            client_id=record.client_ids[index],
            key=record.keys[index],
            event_time_us=record.event_time_us[index],
            receive_time_us=int(self._clock.now().timestamp() * MICROSECONDS),
            duration_us=duration_us,
            status=status,
            inputs=inputs,
            outputs=outputs,
        )

    async def _store(
        self, rollout_id: str, offsets: Offsets, answers: Sequence[ShadowAnswers], cycle_id: str
    ) -> None:
        attempt = 0
        while True:
            try:
                return await self._book.store(rollout_id, offsets, answers, cycle_id)
            except Retry as error:
                attempt += 1
                _log.warning("shadow_waits", error=error.message, attempt=attempt)
                await self._clock.sleep(BACKOFF.delay(attempt, self._rng))

    async def _throttle(self, rows: int) -> None:
        now = self._clock.monotonic()
        start = max(now, self._free_at)
        self._free_at = start + rows / self._rows_per_second
        if start > now:
            await self._clock.sleep(timedelta(seconds=start - now))

    def _under_way(self, model: str, rollout_id: str) -> tuple[Desired, Rollout]:
        desired = self._catalog.desired.get(model)
        if desired is None or desired.rollout is None or desired.rollout.id != rollout_id:
            raise _Over
        return desired, desired.rollout
