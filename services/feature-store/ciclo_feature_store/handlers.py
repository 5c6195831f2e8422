"""The use cases behind the RPCs: read online, import history, cut datasets, audit."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ciclo.errors import CicloError, Conflict, Reject
from ciclo_feature_store.domain.definitions import AppliedLoop, FeatureService
from ciclo_feature_store.domain.event_time import as_text
from ciclo_feature_store.domain.history import HistoryStatus, Observations
from ciclo_feature_store.domain.online import OnlineStore, ViewValues
from ciclo_feature_store.domain.tasks import (
    AuditTask,
    SkewAudit,
    Snapshot,
    SnapshotTask,
    in_us,
    join_of,
)
from ciclo_feature_store.ports import Datasets, History, Loops, Offline

MOST_ROWS = 10_000
"""Rows of one online read; more would hold up the event loop."""

FOREVER_US = 2**62
"""Later than any event time."""


class DataBehindCut(Conflict):
    """A view's source has not yet said that it sent all that the cut needs."""

    reason = "DATA_BEHIND_CUT"


@dataclass(frozen=True, slots=True)
class OnlineAnswer:
    """Values of a feature service.

    Attributes:
        service: What was asked for.
        values: One a view.
    """

    service: FeatureService
    values: list[ViewValues]


class Handlers:
    """What the feature store does when it is asked.

    Args:
        online: The rows readable at once.
        loops: Definitions in force.
        history: Tables.
        offline: Feast.
        datasets: The blob store.
        tables: Address of the folder of all tables.
    """

    def __init__(
        self,
        online: OnlineStore,
        loops: Loops,
        history: History,
        offline: Offline,
        datasets: Datasets,
        *,
        tables: str,
    ) -> None:
        self._online = online
        self._loops = loops
        self._history = history
        self._offline = offline
        self._datasets = datasets
        self._tables = tables

    def read_online(
        self, service_name: str, entities: Mapping[str, list[Any]], as_of_us: int | None
    ) -> OnlineAnswer:
        """Returns the newest values known at an event time, row by row. Cost: µs a row and view.

        Raises:
            Reject: Entity columns are missing, uneven or too long; the service is unknown.
            Conflict: The time lies before what is kept online.
        """
        service = self._loops.service(service_name)
        wanted = {name for view in service.views for name in view.entities}
        absent = sorted(wanted - entities.keys())
        if absent:
            raise Reject(
                f"feature service {service_name} is asked by {', '.join(sorted(wanted))}; "
                f"{', '.join(absent)} is missing",
                field="entities",
            )
        lengths = {name: len(values) for name, values in entities.items()}
        if len(set(lengths.values())) > 1 or max(lengths.values(), default=0) > MOST_ROWS:
            raise Reject(
                f"entity columns have {lengths} rows, expected equal lengths, at most {MOST_ROWS}",
                field="entities",
            )
        return OnlineAnswer(service, self._online.read(service, entities, as_of_us))

    def watermarks(self, service_name: str) -> dict[str, int | None]:
        """Returns how far each view of a service is known, in the service's order.

        Raises:
            NotFound: The service is unknown.
        """
        service = self._loops.service(service_name)
        return {view.name: self._online.view(view.name).watermark_us for view in service.views}

    async def import_observations(self, chunk: Observations) -> int:
        """Stores a chunk of labelled history, once. Returns the rows stored now.

        Raises:
            Reject: It does not fit the loop, or the model is unknown.
        """
        return await self._history.import_observations(chunk, self._loops.applied(chunk.model))

    async def create_snapshot(
        self, model: str, as_of_us: int, start_us: int | None, loop_digest: str
    ) -> Snapshot:
        """Cuts a dataset from all that the topics held when this was called.

        Args:
            model: The model.
            as_of_us: Last event time of the rows and of what is known of their labels.
            start_us: First event time. None: the loop's `data.last` before.
            loop_digest: Whose definitions; empty: the loop in force.

        Raises:
            NotFound: The model or loop is unknown.
            Conflict: No labelled row, data behind the cut, or it takes too long.
        """
        applied = await self._loops.applied_at(model, loop_digest)
        if start_us is None:
            start_us = as_of_us - in_us(applied.loop.retrain.data.last)
        if start_us > as_of_us:
            raise Reject("start_time lies after as_of_time", field="start_time")
        await self._history.catch_up()
        join = join_of(applied, str(self._loops.folder(applied.digest)), self._tables)
        folder = self._datasets.workplace()
        task = SnapshotTask(join, start_us, as_of_us, str(folder))
        try:
            cut = await self._offline.snapshot(task)
            self._require_known(applied.service, cut.newest_event_time_us - join.lag_us)
        except CicloError:
            await self._datasets.discard(folder)
            raise
        return await self._datasets.put(folder, cut, task)

    async def audit_skew(self, model: str, start_us: int | None, end_us: int | None) -> SkewAudit:
        """Compares captured features with the point-in-time join of the history, bit by bit.

        Raises:
            NotFound: The model is unknown.
        """
        applied = self._loops.applied(model)
        await self._history.catch_up()
        join = join_of(applied, str(self._loops.folder(applied.digest)), self._tables)
        start = -FOREVER_US if start_us is None else start_us
        return await self._offline.audit(
            AuditTask(join, start, FOREVER_US if end_us is None else end_us)
        )

    async def check_loop(self, files: Mapping[str, bytes]) -> AppliedLoop:
        """Returns what a definition would be if it were in force.

        Raises:
            Reject: It cannot be used.
        """
        return await self._loops.check(files)

    async def history_status(self, model: str) -> HistoryStatus:
        """Returns how far a model's history is stored.

        Raises:
            NotFound: The model is unknown.
        """
        self._loops.applied(model)
        return await self._history.status(model)

    def _require_known(self, service: FeatureService, until_us: int) -> None:
        """A view whose source never says how far it is promises nothing, and is not waited for."""
        for view in service.views:
            watermark_us = self._online.view(view.name).watermark_us
            if watermark_us is not None and watermark_us < until_us:
                raise DataBehindCut(
                    f"view {view.name} is known up to {as_text(watermark_us)}, "
                    f"{timedelta(microseconds=until_us - watermark_us)} less than the newest row "
                    "needs: cut earlier, or wait for its source",
                    metadata={"view": view.name},
                )
