"""Served answers and labels: kept as they come, decoded and committed in the writer's thread."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import structlog

from ciclo.errors import Reject
from ciclo_bundle import Signature
from ciclo_feature_store import wire
from ciclo_feature_store.adapters.delta import HistoryTable, Tables, arrow_table
from ciclo_feature_store.adapters.events import Event, blaming_the_record
from ciclo_feature_store.adapters.recording import Refused
from ciclo_feature_store.domain.answers import answer_piece
from ciclo_feature_store.domain.history import Piece
from ciclo_feature_store.metrics import FeatureStoreMetrics

Signatures = Callable[[str], Signature]
"""Finds the signature of a bundle by its digest; see `blobs.Signatures.find`."""

_log = structlog.get_logger(__name__)


class HistorySink:
    """Takes `PredictionsServed` and `LabelsReported`.

    Args:
        tables: Get the rows when flushed.
        signatures: Say what captured tensors mean. May block: called in the writer's thread.
        metrics: Count rows.
    """

    def __init__(
        self, tables: Tables, signatures: Signatures, metrics: FeatureStoreMetrics
    ) -> None:
        self._tables = tables
        self._signatures = signatures
        self._metrics = metrics
        self._taken: list[Event] = []

    def take(self, event: Event) -> int:
        """See `Sink.take`."""
        rows = wire.history_rows(event.message)
        self._taken.append(event)
        return rows

    def drain(self) -> "HistoryFlush":
        """See `Sink.drain`."""
        taken, self._taken = self._taken, []
        return HistoryFlush(taken, self._tables, self._signatures, self._metrics)


class HistoryFlush:
    """Events, ready to be decoded and committed.

    Attributes:
        watermarks_us: None; views are not its business.
    """

    def __init__(
        self,
        taken: Sequence[Event],
        tables: Tables,
        signatures: Signatures,
        metrics: FeatureStoreMetrics,
    ) -> None:
        self.watermarks_us: dict[str, int] = {}
        self._taken = taken
        self._tables = tables
        self._signatures = signatures
        self._metrics = metrics

    def write(self) -> Sequence[Refused]:
        """See `Flush.write`. One commit a table."""
        refused = []
        drafts: dict[tuple[str, str], _Draft] = {}
        for event in self._taken:
            try:
                piece = self._decode(event)
                key = piece.table, piece.model
                if key not in drafts:
                    drafts[key] = _Draft(self._tables.table(*key))
                if not drafts[key].add(piece, event):
                    self._metrics.duplicates.labels(piece.table).inc()
            except Reject as error:
                refused.append(Refused(event, error))
        for (kind, _), draft in drafts.items():
            self._metrics.history_rows.labels(kind).inc(draft.commit())
        return refused

    def _decode(self, event: Event) -> Piece:
        message: Any = event.message
        with blaming_the_record():
            if wire.is_labels(message):
                return wire.label_piece(message, event.offset, self._refusing(event))
            answers = wire.answers(message)
        signature = self._signatures(answers.bundle_digest)
        with blaming_the_record():
            return answer_piece(answers, signature, event.offset)

    def _refusing(self, event: Event) -> Callable[[int, str], None]:
        def refuse(index: int, reason: str) -> None:
            self._metrics.labels_refused.inc()
            _log.warning(
                "label_refused",
                report=event.envelope.id,
                place=f"{event.stream}/{event.offset}",
                index=index,
                reason=reason,
            )

        return refuse


class _Draft:
    """What will be one commit of one table."""

    def __init__(self, table: HistoryTable) -> None:
        self._table = table
        self._pieces: list[pa.Table] = []
        self._names: dict[str, None] = {}
        self._next_offsets: dict[str, int] = defaultdict(int)

    def add(self, piece: Piece, event: Event) -> bool:
        """Adds an event's rows. Returns False if they were stored before."""
        if event.offset < self._table.next_offset(event.stream):
            return True  # read again after a crash between commit and position
        with blaming_the_record():
            rows = arrow_table(piece.columns)
        self._table.require_types({field.name: field.type for field in rows.schema})
        self._next_offsets[event.stream] = event.offset + 1
        name = piece.batch_id
        if name and (name in self._names or self._table.knows(name)):
            return False
        self._names[name] = None
        self._pieces.append(rows)
        return True

    def commit(self) -> int:
        """Commits. Returns the rows; a commit without rows would only carry offsets, and waits."""
        if not self._pieces:
            return 0
        rows = pa.concat_tables(self._pieces, promote_options="default")
        self._table.append(rows, self._next_offsets, list(self._names))
        return rows.num_rows
