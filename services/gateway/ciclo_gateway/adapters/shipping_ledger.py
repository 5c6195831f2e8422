"""How far the spool is shipped, in SQLite: a range is written down before it is sent."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects.sqlite import insert

from ciclo_gateway.adapters.tables import EVENT_HOUR, HOUR_US, RANGE, SEGMENT, WRITE_FAILURES
from ciclo_gateway.ports.shipping import Loss, Range, Segment, WriteFailureCount
from ciclo_gateway.wire import events
from ciclo_runtime.database import Database
from ciclo_runtime.transaction import Tx


class SqliteShippingLedger:
    """Implements `ports.ShippingLedger`.

    Args:
        database: The gateway's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def positions(self, segments: Sequence[Segment]) -> Mapping[int, tuple[int, int]]:
        """Returns id and next byte of each segment by inode; new segments are given an id."""
        known = await self._database.read(_known)
        if all(known.get(s.inode, (0, 0, ""))[2] == s.name for s in segments):
            return {inode: (number, at) for inode, (number, at, _) in known.items()}

        def work(tx: Tx) -> dict[int, tuple[int, int]]:
            for segment in segments:
                _recognise(tx.connection, segment)
            found = _known(tx.connection)
            return {inode: (number, at) for inode, (number, at, _) in found.items()}

        return await self._database.transaction(work)

    async def in_flight(self) -> Range | None:
        """Returns the range that was begun and not ended, if any."""

        def read(connection: Connection) -> Range | None:
            row = connection.execute(select(RANGE)).one_or_none()
            if row is None:
                return None
            began = datetime.fromisoformat(row.begin_time)
            return Range(row.segment_id, row.name, row.start, row.end, began, row.topic_offset)

        return await self._database.read(read)

    async def begin(
        self, segment_id: int, name: str, start: int, end: int, topic_offset: int
    ) -> Range:
        """Writes down that a range is about to be sent."""

        def work(tx: Tx) -> Range:
            tx.connection.execute(
                insert(RANGE).values(
                    segment_id=segment_id,
                    name=name,
                    start=start,
                    end=end,
                    begin_time=tx.now.isoformat(),
                    topic_offset=topic_offset,
                )
            )
            return Range(segment_id, name, start, end, tx.now, topic_offset)

        return await self._database.transaction(work)

    async def end(self, done: Range, losses: Sequence[Loss], newest: Mapping[str, int]) -> None:
        """Writes down that a range was acknowledged; `PredictionsLost` for each loss."""

        def work(tx: Tx) -> None:
            tx.connection.execute(delete(RANGE))
            for model, event_time_us in newest.items():
                _reach(tx.connection, model, event_time_us // HOUR_US, done.topic_offset)
            _advance(tx, done.segment_id, done.end, losses)

        await self._database.transaction(work)

    async def drop(self, segment_id: int, end: int, losses: Sequence[Loss]) -> None:
        """Gives a segment up: it counts as shipped; `PredictionsLost` for each loss."""

        def work(tx: Tx) -> None:
            # What was being sent of it may have arrived; it is counted as lost all the same.
            tx.connection.execute(delete(RANGE).where(RANGE.c.segment_id == segment_id))
            _advance(tx, segment_id, end, losses)

        await self._database.transaction(work)

    async def count_write_failures(
        self, found: WriteFailureCount, loss: Callable[[int], Loss]
    ) -> int:
        """Writes down how often Envoy could not write; returns how many of them are new."""

        def work(tx: Tx) -> int:
            seen = tx.connection.execute(select(WRITE_FAILURES)).one_or_none()
            # An Envoy that started anew counts from 0.
            is_known = seen is not None and seen.process in (found.process, "")
            fresh = found.since_start - (seen.since_start if seen is not None and is_known else 0)
            row = {"id": 1, "process": found.process, "since_start": found.since_start}
            if fresh or not is_known:
                tx.connection.execute(
                    insert(WRITE_FAILURES)
                    .values(row)
                    .on_conflict_do_update(index_elements=[WRITE_FAILURES.c.id], set_=row)
                )
            _tell(tx, [loss(fresh)] if fresh else [])
            return fresh

        return await self._database.transaction(work)

    async def forget(self, segment_id: int) -> None:
        """Forgets a segment whose file is deleted."""
        await self._database.transaction(
            lambda tx: (
                tx.connection.execute(delete(SEGMENT).where(SEGMENT.c.id == segment_id)) and None
            )
        )


def _advance(tx: Tx, segment_id: int, next_byte: int, losses: Sequence[Loss]) -> None:
    tx.connection.execute(
        update(SEGMENT).where(SEGMENT.c.id == segment_id).values(next_byte=next_byte)
    )
    _tell(tx, losses)


def _reach(connection: Connection, model: str, hour: int, topic_offset: int) -> None:
    """Keeps the first offset of an hour; an hour that comes after a later one needs none."""
    later = EVENT_HOUR.c.model == model, EVENT_HOUR.c.hour >= hour
    if connection.execute(select(EVENT_HOUR.c.hour).where(*later).limit(1)).first() is None:
        connection.execute(
            insert(EVENT_HOUR).values(model=model, hour=hour, topic_offset=topic_offset)
        )


def _tell(tx: Tx, losses: Sequence[Loss]) -> None:
    for loss in losses:
        message = events.predictions_lost(loss.model, loss.count, loss.reason, loss.place)
        tx.emit(message, subject=loss.model, correlation_id="")


def _known(connection: Connection) -> dict[int, tuple[int, int, str]]:
    rows = connection.execute(select(SEGMENT))
    return {row.inode: (row.id, row.next_byte, row.name) for row in rows}


def _recognise(connection: Connection, segment: Segment) -> None:
    """Keeps the row of a segment, renamed or not; a deleted one's inode may have a new file."""
    row = connection.execute(select(SEGMENT).where(SEGMENT.c.inode == segment.inode)).one_or_none()
    if row is not None and row.name == segment.name:
        return
    if row is not None and segment.name.startswith(f"{row.name.removesuffix('log')}"):
        connection.execute(update(SEGMENT).where(SEGMENT.c.id == row.id).values(name=segment.name))
        return
    connection.execute(delete(SEGMENT).where(SEGMENT.c.inode == segment.inode))
    connection.execute(insert(SEGMENT).values(inode=segment.inode, name=segment.name, next_byte=0))
