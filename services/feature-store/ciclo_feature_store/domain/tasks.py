"""What the offline process is asked for and answers; both cross a pipe as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from ciclo_feature_store.domain.definitions import AppliedLoop, Definitions
from ciclo_feature_store.domain.history import Kind, caller_inputs


@dataclass(frozen=True, slots=True)
class Join:
    """How the rows of a model meet their features.

    Attributes:
        model: The model.
        loop_folder: Folder that holds features.py.
        loop_digest: Digest of that folder.
        service: Name of the feature service.
        features: What the service has, by view in order: its features, as "float32" or "string".
        view_digests: By view.
        meanings: By feature; features without one are absent.
        inputs: Entities and request fields with their kinds, in order.
        entities: Which of the inputs are entities.
        id: The input that is the row's business key; empty: there is none.
        lag_us: Knowledge lag: only what was known so long before a row's event time.
        older_than_us: By view: values older than this at a row's event time are missing.
        tables: Folder of the Delta tables.
    """

    model: str
    loop_folder: str
    loop_digest: str
    service: str
    features: Mapping[str, Mapping[str, Literal["float32", "string"]]]
    view_digests: Mapping[str, str]
    meanings: Mapping[str, str]
    inputs: Mapping[str, Kind]
    entities: tuple[str, ...]
    id: str
    lag_us: int
    older_than_us: Mapping[str, int]
    tables: str


@dataclass(frozen=True, slots=True)
class DefineTask:
    """Read features.py. Answer: `Definitions`."""

    loop_folder: str
    loop_digest: str
    kind: Literal["define"] = "define"


@dataclass(frozen=True, slots=True)
class SnapshotTask:
    """Cut a dataset. Answer: `SnapshotCut`.

    Attributes:
        join: How rows meet features.
        start_us: First event time of the rows.
        as_of_us: Last event time of the rows and of what is known of their labels.
        out: Folder to be made.
    """

    join: Join
    start_us: int
    as_of_us: int
    out: str
    kind: Literal["snapshot"] = "snapshot"


@dataclass(frozen=True, slots=True)
class SnapshotCut:
    """What a dataset holds.

    Attributes:
        rows: Labelled rows.
        unlabelled_rows: Rows in the window whose label was not known at the cut.
        newest_event_time_us: Greatest event time of the labelled rows; 0 without rows.
        table_versions: Of each table that was read, by its name.
    """

    rows: int
    unlabelled_rows: int
    newest_event_time_us: int
    table_versions: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A dataset in the blob store.

    Attributes:
        digest: Its address.
        cut: What it holds.
    """

    digest: str
    cut: SnapshotCut


@dataclass(frozen=True, slots=True)
class AuditTask:
    """Compare captured features with the join of the history. Answer: `SkewAudit`.

    Attributes:
        join: How rows meet features.
        start_us: First event time.
        end_us: Last event time, not included.
    """

    join: Join
    start_us: int
    end_us: int
    kind: Literal["audit"] = "audit"


@dataclass(frozen=True, slots=True)
class SkewAudit:
    """How captured and recomputed features differ.

    Attributes:
        rows_audited: Rows compared.
        rows_different: Rows in which some feature differs.
        different_by_feature: Rows that differ, by feature; features that never differ are absent.
        examples: Up to ten, for people.
    """

    rows_audited: int = 0
    rows_different: int = 0
    different_by_feature: Mapping[str, int] = field(default_factory=dict)
    examples: tuple[str, ...] = ()


Task = DefineTask | SnapshotTask | AuditTask
Answer = Definitions | SnapshotCut | SkewAudit


def join_of(applied: AppliedLoop, loop_folder: str, tables: str) -> Join:
    """Returns how a loop's rows meet their features."""
    loop, service = applied.loop, applied.service
    return Join(
        model=loop.model,
        loop_folder=loop_folder,
        loop_digest=applied.digest,
        service=service.name,
        features={
            view.name: {feature.name: feature.datatype for feature in view.features}
            for view in service.views
        },
        view_digests={
            view.name: digest
            for view, digest in zip(service.views, service.view_digests, strict=True)
        },
        meanings={f.name: f.meaning for f in service.features if f.meaning},
        inputs=caller_inputs(loop),
        entities=tuple(loop.entities),
        id=loop.input.id or "",
        lag_us=in_us(loop.knowledge_lag),
        older_than_us={view: in_us(rule.older_than) for view, rule in loop.input.fallback.items()},
        tables=tables,
    )


def in_us(span: timedelta) -> int:
    """Returns a span in microseconds.

    Example:
        >>> in_us(timedelta(seconds=1))
        1000000
    """
    return span // timedelta(microseconds=1)
