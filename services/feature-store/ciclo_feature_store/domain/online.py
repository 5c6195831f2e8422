"""The online side: what was known of each entity, as of any recent event time.

A row is placed by (event time, offset, index within its batch). Of rows with equal event time the
one sent last counts. So the outcome depends on what was sent, never on the order of arrival, and
is what the point-in-time join of the history finds.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ciclo.errors import Conflict, Reject
from ciclo_feature_store.domain.definitions import FeatureService, View
from ciclo_feature_store.domain.feature_rows import FeatureRows, ViewSchema, kinds_of, said

MISSING = {"float32": float("nan"), "string": ""}
"""What a feature is when nothing is known."""

Key = tuple[Any, ...]
"""The join keys of an entity, in alphabetical order of their names."""

Place = tuple[int, int]
"""Where a row was sent: offset of its batch and index within. The greater was sent later."""

KeptRow = tuple[Key, int, Place, tuple[Any, ...]]
"""A stored row: entity, event time (µs), place, values; None where a batch lacked the field."""


class BeforeHistory(Conflict):
    """Asked for a time before the oldest row that is kept online."""

    reason = "BEFORE_ONLINE_HISTORY"


@dataclass(frozen=True, slots=True)
class ViewValues:
    """Answer of one view.

    Attributes:
        columns: One list a feature, in the order asked for, each [rows].
        event_times_us: Event time of each row's values; 0 where nothing was known.
    """

    columns: Sequence[list[Any]]
    event_times_us: list[int]


@dataclass(slots=True)
class _Timeline:
    """The newest rows of one entity by event time; the three lists go together."""

    times_us: list[int] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    is_cut: bool = False

    def put(self, time_us: int, place: Place, row: tuple[Any, ...]) -> bool:
        """Stores a row unless a newer one has its event time. Returns whether it was stored."""
        at = bisect_left(self.times_us, time_us)
        if at < len(self.times_us) and self.times_us[at] == time_us:
            if self.places[at] >= place:
                return False
            self.places[at], self.rows[at] = place, row
            return True
        if at == 0 and self.is_cut:
            return False  # older than all that is kept
        self.times_us.insert(at, time_us)
        self.places.insert(at, place)
        self.rows.insert(at, row)
        return True

    def cut(self, most: int) -> None:
        """Forgets the oldest rows."""
        surplus = len(self.times_us) - most
        if surplus > 0:
            del self.times_us[:surplus], self.places[:surplus], self.rows[:surplus]
            self.is_cut = True


class OnlineView:
    """The rows of one view that can be read online. One thread at a time.

    Memory: `rows_per_entity` rows for each entity. Reading or placing a row costs a few
    microseconds, whatever the number of entities.

    Args:
        name: Of the view.
        rows_per_entity: How many of an entity's newest rows are kept. >= 1.
    """

    def __init__(self, name: str, rows_per_entity: int) -> None:
        self.name = name
        self.watermark_us: int | None = None
        self._most = rows_per_entity
        self._schema = ViewSchema(name)
        self._columns: dict[str, int] = {}
        self._timelines: dict[Key, _Timeline] = {}

    @property
    def entity_count(self) -> int:
        """How many entities have values."""
        return len(self._timelines)

    def apply(self, rows: FeatureRows, offset: int) -> int:
        """Places a batch and moves the watermark, both at once.

        Args:
            rows: Of this view.
            offset: Where the batch lies in its topic: the later one counts at equal event times.

        Returns:
            How many rows were new.

        Raises:
            BadFeatureRows: Other entities or types than earlier batches; nothing was placed.
        """
        if len(rows):
            self._schema.take(kinds_of(rows.entities), kinds_of(rows.fields))
        self.advance(rows.watermark_us)
        keys = zip(*(values.tolist() for values in rows.entities.values()), strict=True)
        times = rows.event_times_us.tolist()
        packed = zip(keys, times, self._packed(rows), strict=True)
        return sum(
            self._place(key, time_us, (offset, index), row)
            for index, (key, time_us, row) in enumerate(packed)
        )

    def restore(
        self, entities: Mapping[str, type], fields: Mapping[str, type], rows: Iterable[KeptRow]
    ) -> None:
        """Places rows that were stored before; called once, before any batch.

        Args:
            entities: The join keys, in alphabetical order, each `str` or `int`.
            fields: What the values of a row are, in order, each `str` or `float`.
            rows: Of each entity the newest, one more than is kept where there are more.
        """
        self._schema.take(entities, fields)
        self._columns = {name: at for at, name in enumerate(fields)}
        for key, time_us, place, row in rows:
            self._place(key, time_us, place, row)

    def advance(self, watermark_us: int | None) -> None:
        """Moves the watermark on; it never goes back."""
        said = [time for time in (self.watermark_us, watermark_us) if time is not None]
        self.watermark_us = max(said, default=None)

    def read(
        self, view: View, entities: Mapping[str, list[Any]], as_of_us: int | None
    ) -> ViewValues:
        """Returns the newest values known at an event time.

        Args:
            view: Which features, and how long they count.
            entities: At least the view's join keys, each [rows].
            as_of_us: Microseconds since the epoch. None: the newest there are, however old.

        Raises:
            BeforeHistory: An entity's rows at that time are no longer kept.
            Reject: A join key is of another type than the rows' keys.
        """
        self._require_asked(entities)
        nothing = tuple(MISSING[feature.datatype] for feature in view.features)
        places = [self._columns.get(feature.name, -1) for feature in view.features]
        times: list[int] = []
        found: list[tuple[Any, ...]] = []
        for key in zip(*(entities[name] for name in sorted(view.entities)), strict=True):
            time_us, row = self._find(key, as_of_us, view.ttl_us)
            times.append(time_us)
            if row is None:
                found.append(nothing)
            else:
                width = len(row)
                found.append(
                    tuple(
                        missing if not 0 <= at < width or row[at] is None else row[at]
                        for at, missing in zip(places, nothing, strict=True)
                    )
                )
        columns = [list(column) for column in zip(*found, strict=True)]
        return ViewValues(columns or [[] for _ in places], times)

    def _place(self, key: Key, time_us: int, place: Place, row: tuple[Any, ...]) -> bool:
        timeline = self._timelines.get(key)
        if timeline is None:
            timeline = self._timelines[key] = _Timeline()
        is_new = timeline.put(time_us, place, row)
        timeline.cut(self._most)
        return is_new

    def _find(
        self, key: Key, as_of_us: int | None, ttl_us: int
    ) -> tuple[int, tuple[Any, ...] | None]:
        timeline = self._timelines.get(key)
        if timeline is None:
            return 0, None
        if as_of_us is None:
            return timeline.times_us[-1], timeline.rows[-1]
        at = bisect_right(timeline.times_us, as_of_us) - 1
        if at < 0:
            if timeline.is_cut:
                raise BeforeHistory(
                    f"{self.name} keeps {self._most} rows of {'/'.join(map(str, key))} online, the "
                    f"oldest at {timeline.times_us[0]} µs; asked for {as_of_us} µs: ask for a "
                    "later time, or raise CICLO_ONLINE_ROWS_PER_ENTITY",
                    field="as_of_time",
                )
            return 0, None
        time_us = timeline.times_us[at]
        if ttl_us and as_of_us - time_us > ttl_us:
            return 0, None
        return time_us, timeline.rows[at]

    def _packed(self, rows: FeatureRows) -> list[tuple[Any, ...]]:
        """The values row by row, each in its column's place; fields that are absent are missing."""
        for name in rows.fields:
            self._columns.setdefault(name, len(self._columns))
        count = len(rows)
        columns = []
        for name in self._columns:
            values = rows.fields.get(name)
            # None stands for "absent from this batch": its type is known only to the reader.
            columns.append([None] * count if values is None else values.tolist())
        return list(zip(*columns, strict=True)) if columns else [()] * count

    def _require_asked(self, entities: Mapping[str, list[Any]]) -> None:
        """A number asked for as a text would be an unknown entity, silently."""
        for name, kind in self._schema.entities.items():
            if entities[name] and not isinstance(entities[name][0], kind):
                raise Reject(f"{self.name} is joined by {said({name: kind})}", field="entities")


class OnlineStore:
    """All views that are readable online. One thread at a time.

    Args:
        rows_per_entity: See `OnlineView`.
    """

    def __init__(self, rows_per_entity: int) -> None:
        self._rows_per_entity = rows_per_entity
        self._views: dict[str, OnlineView] = {}

    def view(self, name: str) -> OnlineView:
        """Returns a view's rows; those of a view that was never heard of are empty."""
        found = self._views.get(name)
        if found is None:
            found = self._views[name] = OnlineView(name, self._rows_per_entity)
        return found

    def read(
        self, service: FeatureService, entities: Mapping[str, list[Any]], as_of_us: int | None
    ) -> list[ViewValues]:
        """Returns the values of a service, one a view. See `OnlineView.read`."""
        return [self.view(view.name).read(view, entities, as_of_us) for view in service.views]

    def watermarks(self) -> dict[str, int]:
        """Returns how far each view is known; views without a watermark are absent."""
        return {
            name: view.watermark_us
            for name, view in self._views.items()
            if view.watermark_us is not None
        }
