"""The Faust worker: hands records to the use cases in order, acknowledges after the snapshot.

Faust's commit skips gaps: an unacknowledged message does not protect itself. So acknowledgements
follow the snapshot in order, offsets are stored with the state, and what Faust delivers again is
skipped. An agent must not raise: Faust would acknowledge the message and go on.
"""

import asyncio
import random
from typing import Any

import faust
import structlog
from aiokafka import TopicPartition

from ciclo.cloudevents import decode
from ciclo.errors import Reject, Retry
from ciclo.events.v1.labels_reported_pb2 import LabelsReported
from ciclo.events.v1.predictions_lost_pb2 import PredictionsLost
from ciclo.events.v1.predictions_served_pb2 import PredictionsServed
from ciclo.topics import LABELS, PREDICTIONS
from ciclo_monitor import wire
from ciclo_monitor.handlers import Monitor
from ciclo_monitor.metrics import MonitorMetrics
from ciclo_monitor.settings import Settings
from ciclo_runtime.backoff import DEFAULT_BACKOFF
from ciclo_runtime.clock import Clock
from ciclo_runtime.dead_letters import DeadLetters
from ciclo_runtime.streams import require_reached

_log = structlog.get_logger(__name__)


class FaustWorker:
    """A part that reads predictions and labels.

    Args:
        settings: Kafka, environment, how often to save.
        monitor: The use cases.
        dead_letters: Where bad records go.
        metrics: Counts refused rows.
        clock: Times snapshots.
    """

    name = "faust worker"

    def __init__(
        self,
        settings: Settings,
        monitor: Monitor,
        *,
        dead_letters: DeadLetters,
        metrics: MonitorMetrics,
        clock: Clock,
    ) -> None:
        self._monitor = monitor
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._clock = clock
        self._bootstrap = settings.kafka_bootstrap
        self._interval = settings.snapshot_interval
        self._jitter = random.Random()
        self._taken: list[Any] = []
        self._died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._saving: asyncio.Task[None] | None = None
        self._app = _app(settings)
        for topic in (PREDICTIONS, LABELS):
            channel = self._app.topic(
                topic.name(settings.env), value_type=bytes, value_serializer="raw"
            )
            self._app.agent(channel, name=f"watch-{topic.domain}")(self._watch)

    async def start(self) -> None:
        """Goes on from the stored state, then joins the consumer group."""
        await self._monitor.begin()
        await self._require_same_topics()
        self._app.finalize()
        await self._app.start()
        self._saving = asyncio.create_task(self._save_often(), name="snapshots")

    async def stop(self) -> None:
        """Leaves the group and saves what was taken."""
        if self._saving:
            self._saving.cancel()
            await asyncio.wait([self._saving])
        await self._save()
        await self._app.stop()

    async def wait(self) -> None:
        """Raises what the worker died of."""
        assert self._saving, "wait() before start()"
        await asyncio.wait({self._died, self._saving}, return_when=asyncio.FIRST_COMPLETED)
        for end in (self._died, self._saving):
            if end.done():
                end.result()

    async def _require_same_topics(self) -> None:
        """A topic that was made anew would be taken for known, and skipped."""
        offsets = {TopicPartition(t, 0): at for t, at in self._monitor.offsets.items()}
        attempts = 0
        while offsets:
            try:
                await require_reached(self._bootstrap, offsets)
                break
            except Retry as error:
                attempts += 1
                _log.warning("monitor_waits", error=error.message)
                await self._clock.sleep(DEFAULT_BACKOFF.delay(attempts, self._jitter))

    async def _watch(self, stream: Any) -> None:
        async for event in stream.noack().events():
            try:
                await self._take(event.message)
            except Exception as error:  # noqa: BLE001 -- told by `wait`, which stops the service
                if not self._died.done():
                    self._died.set_exception(error)
                await asyncio.Event().wait()  # nothing after it may be acknowledged
            self._taken.append(event)

    async def _take(self, message: Any) -> None:
        if self._monitor.is_known(message.topic, message.offset):
            return
        attempts = 0
        while True:
            attempts += 1
            try:
                await self._fold(message)
            except Retry as error:
                _log.warning("record_waits", topic=message.topic, error=error.message)
                await self._clock.sleep(DEFAULT_BACKOFF.delay(attempts, self._jitter))
            except Reject as error:
                await self._dead_letters.put(_as_record(message), error, attempts)
                await self._monitor.passed(message.topic, message.offset)
                return
            else:
                self._dead_letters.passed()
                return

    async def _fold(self, record: Any) -> None:
        envelope, message = decode(record.value, record.headers or ())
        place = (record.topic, record.offset)
        if isinstance(message, PredictionsServed):
            model = message.version.model
            answers = wire.to_answers(message, await self._monitor.loop_of(model))
            if answers is None:
                await self._monitor.passed(*place)
            else:
                await self._monitor.take_answers(*place, model, answers)
        elif isinstance(message, LabelsReported):
            await self._monitor.loop_of(message.model)

            def refuse(index: int, reason: str) -> None:
                self._metrics.rejected.labels(message.model, reason).inc()
                _log.warning("label_refused", report=envelope.id, index=index, reason=reason)

            labels = wire.to_labels(message, refuse)
            await self._monitor.take_labels(*place, message.model, labels)
        elif isinstance(message, PredictionsLost):
            await self._monitor.take_lost(*place, message.model, message.count)
        else:
            await self._monitor.passed(*place)

    async def _save_often(self) -> None:
        while True:
            await self._clock.sleep(self._interval)
            if self._taken:
                await self._save()

    async def _save(self) -> None:
        # Saved is at least what was taken before the snapshot; only that is acknowledged.
        covered, self._taken = self._taken, []
        await self._monitor.save()
        for event in covered:
            event.ack()


def _app(settings: Settings) -> Any:
    return faust.App(
        f"{settings.env}-monitor",
        broker=f"kafka://{settings.kafka_bootstrap.replace(',', ';')}",
        store="memory://",
        datadir=str(settings.state_dir / "monitor" / "faust"),
        autodiscover=False,
        web_enabled=False,  # its default: 0.0.0.0:6066 without authentication
        broker_session_timeout=8,  # 60 s: a worker that replaces a killed one waits for a minute
        broker_heartbeat_interval=2,
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,
        topic_allow_declare=False,  # the table of topics makes them
        topic_disable_leader=True,
        topic_replication_factor=1,
        topic_partitions=1,
    )


def _as_record(message: Any) -> Any:
    """Returns a Faust message with the fields of a Kafka record: its headers are never None."""
    message.headers = list(message.headers or ())
    return message
