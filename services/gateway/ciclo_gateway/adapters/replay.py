"""Captured requests from Kafka, and the shadow worker's place in them."""

from collections.abc import AsyncIterator, Sequence

from aiokafka import TopicPartition
from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from ciclo.topics import PREDICTIONS
from ciclo_gateway.adapters.tables import EVENT_HOUR, HOUR_US, SHADOW
from ciclo_gateway.domain.shadow import Record
from ciclo_gateway.ports.shadowing import Offsets, ShadowAnswers
from ciclo_gateway.wire import events
from ciclo_runtime.database import Database
from ciclo_runtime.streams import StreamReader
from ciclo_runtime.transaction import Tx


class KafkaReplay:
    """Implements `ports.Replay`.

    Args:
        reader: Of `PredictionsServed`.
        env: First word of the topic.
    """

    def __init__(self, reader: StreamReader, env: str) -> None:
        self._reader = reader
        self._topic = PREDICTIONS.name(env)

    async def batches(self, offsets: Offsets) -> AsyncIterator[tuple[Sequence[Record], Offsets]]:
        """Yields records with the offsets after them, for ever; empty ones when nothing comes."""
        start = {TopicPartition(self._topic, p): offset for p, offset in offsets.items()}
        async for batch in self._reader.batches(start):
            records = [
                events.record_of(r.message, r.offset)
                for r in batch.records
                if isinstance(r.message, events.PREDICTIONS_SERVED)
            ]
            yield records, {p.partition: offset for p, offset in batch.next_offsets.items()}


class SqliteShadowBook:
    """Implements `ports.ShadowBook`.

    Args:
        database: The gateway's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def offsets(self, rollout_id: str, model: str, since_us: int) -> Offsets:
        """Returns where to go on; at first, a place before all requests of a model since a time."""
        hours = select(EVENT_HOUR.c.topic_offset).where(EVENT_HOUR.c.model == model)
        reached = hours.where(EVENT_HOUR.c.hour >= since_us // HOUR_US)

        def read(connection: Connection) -> Offsets:
            kept = connection.execute(select(SHADOW).where(SHADOW.c.rollout_id == rollout_id)).all()
            if kept:
                return {row.partition: row.next_offset for row in kept}
            first = connection.execute(reached.order_by(EVENT_HOUR.c.hour)).first()
            # Nothing that new was captured yet, or it is being sent at this moment.
            first = first or connection.execute(hours.order_by(EVENT_HOUR.c.hour.desc())).first()
            return {0: first.topic_offset} if first else {}

        return await self._database.read(read)

    async def store(
        self, rollout_id: str, offsets: Offsets, answers: Sequence[ShadowAnswers], cycle_id: str
    ) -> None:
        """Keeps the place and publishes the answers, both or neither."""

        def work(tx: Tx) -> None:
            for partition, offset in offsets.items():
                row = {
                    "rollout_id": rollout_id,
                    "partition": partition,
                    "next_offset": offset,
                }
                tx.connection.execute(
                    insert(SHADOW)
                    .values(row)
                    .on_conflict_do_update(
                        index_elements=[SHADOW.c.rollout_id, SHADOW.c.partition], set_=row
                    )
                )
            for found in answers:
                message = events.predictions_served(
                    found.batch_id, found.version, found.variant, found.answers, rollout_id
                )
                tx.emit(
                    message,
                    subject=found.version.model,
                    correlation_id=cycle_id,
                    event_id=found.batch_id,
                )

        await self._database.transaction(work)
