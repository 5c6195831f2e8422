"""Feast's offline store over Ciclo's Delta tables: point-in-time joins by DuckDB."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from feast import FeatureView
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel

from ciclo_feature_store.adapters.offline.point_in_time import (
    JoinedView,
    latest,
    nothing_known,
    point_in_time,
)
from ciclo_feature_store.domain.tasks import in_us

EVENT_TIMESTAMP = "event_timestamp"
"""Column of the entity rows: at this time their features are wanted. Feast's own name for it."""


class DeltaOfflineStoreConfig(FeastConfigBaseModel):
    """What Feast's configuration says of this store."""

    type: Literal["ciclo_feature_store.adapters.offline.store.DeltaOfflineStore"] = (
        "ciclo_feature_store.adapters.offline.store.DeltaOfflineStore"
    )

    tables: str
    """Folder of the Delta tables."""


class DeltaOfflineStore(OfflineStore):
    """Joins each entity row with the newest row of each view at or before its time.

    Of rows with one event time the one sent last counts; a view's `ttl` limits the age. A view's
    data source is not asked: every view has its table.
    """

    @staticmethod
    def get_historical_features(  # noqa: D102 -- Feast's contract
        config: Any,
        feature_views: Sequence[FeatureView],
        feature_refs: Sequence[str],
        entity_df: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        **kwargs: Any,
    ) -> "DeltaJoin":
        del registry, project, kwargs
        if not isinstance(entity_df, pd.DataFrame) or full_feature_names:
            raise NotImplementedError("takes a data frame of entities and plain feature names")
        tables = Path(config.offline_store.tables) / "features"
        taken: dict[str, list[str]] = {}
        for ref in feature_refs:
            view, _, feature = ref.partition(":")
            taken.setdefault(view, []).append(feature)
        joined = [
            JoinedView(
                view.name,
                tuple(entity.name for entity in view.entity_columns),
                tuple(taken[view.name]),
                in_us(view.ttl) if view.ttl else 0,
            )
            for view in feature_views
        ]
        return DeltaJoin(tables, joined, list(feature_refs), entity_df)


class DeltaJoin(RetrievalJob):
    """One point-in-time join, done when its result is asked for.

    Attributes:
        table_versions: Version of each table that was read, once the join was done.
    """

    def __init__(
        self,
        folder: Path,
        views: Sequence[JoinedView],
        feature_refs: list[str],
        entities: pd.DataFrame,
    ) -> None:
        self.table_versions: dict[str, int] = {}
        self._folder = folder
        self._views = views
        self._feature_refs = feature_refs
        self._entities = entities

    @property
    def full_feature_names(self) -> bool:
        """See Feast."""
        return False

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """See Feast: there are none."""
        return []

    @property
    def metadata(self) -> RetrievalMetadata:
        """See Feast."""
        return RetrievalMetadata(features=self._feature_refs, keys=list(self._entities.columns))

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        del timeout
        asked = pa.Table.from_pandas(self._entities, preserve_index=False)
        times = pc.cast(pc.cast(asked[EVENT_TIMESTAMP], pa.timestamp("us", "UTC")), pa.int64())
        result, asked = asked, asked.append_column(_AT_US, times)
        for view in self._views:
            for name, column in self._join(asked, view).items():
                result = result.append_column(name, column)
        return result

    def _join(self, asked: pa.Table, view: JoinedView) -> dict[str, Any]:
        folder = self._folder / view.name
        if not asked.num_rows or not DeltaTable.is_deltatable(str(folder)):
            return nothing_known(asked.num_rows, view)
        table = DeltaTable(str(folder))
        self.table_versions[f"features/{view.name}"] = table.version()
        # Nothing later than the latest question can be an answer.
        is_early = pc.field("event_time") <= latest(asked[_AT_US])
        return point_in_time(asked, _AT_US, view, table.to_pyarrow_dataset().filter(is_early))


_AT_US = "_at_us"
