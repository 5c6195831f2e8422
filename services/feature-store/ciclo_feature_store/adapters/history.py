"""The tables as the use cases see them: import, catch up with the topics, tell how far they are."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from ciclo.errors import Retry
from ciclo_feature_store.adapters.delta import Tables, arrow_table
from ciclo_feature_store.adapters.recording import Recording
from ciclo_feature_store.adapters.writer import Writer
from ciclo_feature_store.domain.definitions import AppliedLoop
from ciclo_feature_store.domain.history import (
    TABLES,
    HistoryStatus,
    Observations,
    observation_columns,
)
from ciclo_feature_store.metrics import FeatureStoreMetrics
from ciclo_runtime import kafka


class DeltaHistory:
    """See `ports.History`.

    Args:
        tables: The tables.
        writer: Where they are touched.
        recordings: What follows the topics.
        bootstrap: Kafka's address, to ask where topics end.
        metrics: Count rows.
        catch_up_timeout: How long to wait for the recordings.
    """

    def __init__(
        self,
        tables: Tables,
        writer: Writer,
        recordings: Sequence[Recording],
        bootstrap: str,
        *,
        metrics: FeatureStoreMetrics,
        catch_up_timeout: timedelta,
    ) -> None:
        self._tables = tables
        self._writer = writer
        self._recordings = recordings
        self._bootstrap = bootstrap
        self._metrics = metrics
        self._timeout = catch_up_timeout

    async def import_observations(self, chunk: Observations, applied: AppliedLoop) -> int:
        """See `ports.History`."""

        def store() -> int:
            rows = arrow_table(observation_columns(chunk, applied.loop))
            table = self._tables.table("observations", chunk.model)
            if table.knows(chunk.chunk_id):
                self._metrics.duplicates.labels("observations").inc()
                return 0
            if rows.num_rows:
                table.require_types({field.name: field.type for field in rows.schema})
                table.append(rows, {}, [chunk.chunk_id])
                self._metrics.history_rows.labels("observations").inc(rows.num_rows)
            return rows.num_rows

        return await self._writer.run(store)

    async def catch_up(self) -> None:
        """See `ports.History`."""
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                await asyncio.gather(*(self._catch_up(each) for each in self._recordings))
        except (TimeoutError, KafkaError, OSError) as error:
            raise Retry(
                f"what is in the topics was not stored within {self._timeout}: {error!r}",
                reason="NOT_CAUGHT_UP",
            ) from error

    async def status(self, model: str) -> HistoryStatus:
        """See `ports.History`."""

        def look() -> tuple[dict[str, int], dict[str, str]]:
            tables = {kind: self._tables.table(kind, model) for kind in TABLES}
            return (
                {kind: table.rows for kind, table in tables.items()},
                {kind: table.url for kind, table in tables.items() if table.rows},
            )

        rows, urls = await self._writer.run(look)
        next_offsets = {
            place.topic: offset
            for recording in self._recordings
            for place, offset in recording.positions.items()
        }
        return HistoryStatus(rows, next_offsets, urls)

    async def _catch_up(self, recording: Recording) -> None:
        await recording.read_until(await topic_ends(self._bootstrap, recording.topics))


async def topic_ends(bootstrap: str, topics: Sequence[str]) -> dict[TopicPartition, int]:
    """Returns the offset that the next record of each topic will get."""
    consumer = kafka.position_consumer(bootstrap, list(topics))
    try:
        await consumer.start()
        ends: dict[TopicPartition, int] = await consumer.end_offsets(sorted(consumer.assignment()))
        return ends
    finally:
        await kafka.close(consumer)
