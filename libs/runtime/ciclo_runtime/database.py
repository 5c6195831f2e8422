"""A service's own database: SQLite behind one writer thread, off the event loop."""

import asyncio
import contextvars
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection, Engine, MetaData, create_engine, event, insert, select, update
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import StaticPool

from ciclo.cloudevents import Envelope, decode
from ciclo.errors import Fatal, Retry
from ciclo_runtime import ledger
from ciclo_runtime.clock import Clock
from ciclo_runtime.transaction import Tx, new_event_id

BUSY_TIMEOUT_SECONDS = 5.0
"""How long SQLite waits for a lock. Only a second process (a backup, a shell) can hold one."""

READER_THREADS = 2
"""Reads that run at once; WAL lets them run beside the writer."""

_RECOVERABLE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
}
"""Codes that say that the machine, not the statement, is at fault."""

T = TypeVar("T")


class Database:
    """A part that holds a service's state, its inbox and its outbox.

    A transaction begins immediately (no reader becomes a writer halfway) and is on disk when it
    returns (`synchronous=FULL`), because offsets are committed after it. Transactions run one
    after the other in the order in which they were asked for.

    Args:
        path: The file; its folder is made. None: in memory, for tests.
        metadata: The service's own tables; those that are missing are created at start.
        service: The service's name, the source of its events.
        env: First word of its topics.
        clock: Dates transactions and events.
        upgrades: `upgrades[i]` brings tables from version i + 1 to i + 2; the present version is
            their number plus one. A file of a later version is refused.
        new_id: Makes event ids.
    """

    def __init__(
        self,
        path: Path | None,
        metadata: MetaData,
        *,
        service: str,
        env: str,
        clock: Clock,
        upgrades: Sequence[Callable[[Connection], None]] = (),
        new_id: Callable[[], str] = new_event_id,
    ) -> None:
        self.service = service
        self.env = env
        self.has_outgoing = asyncio.Event()
        self._path = path
        self._metadata = metadata
        self._clock = clock
        self._upgrades = tuple(upgrades)
        self._new_id = new_id
        self._writer = ThreadPoolExecutor(1, thread_name_prefix=f"{service}-writer")
        # A database in memory is one connection, so its reads take their turn with its writes.
        self._readers = (
            ThreadPoolExecutor(READER_THREADS, thread_name_prefix=f"{service}-reader")
            if path
            else self._writer
        )
        self._engine: Engine | None = None

    async def start(self) -> None:
        """Opens the file, creates missing tables, upgrades old ones.

        Raises:
            Fatal: It is no SQLite file, or one that a later version of the service wrote.
        """
        await self._run(self._writer, self._open)
        self.has_outgoing.set()  # what an earlier process left

    async def stop(self) -> None:
        """Waits for the transactions that are under way and closes the file."""
        self._readers.shutdown(wait=False)
        self._writer.shutdown(wait=False)
        await asyncio.to_thread(self._shut)

    async def transaction(self, work: Callable[[Tx], T], *, cause: Envelope | None = None) -> T:
        """Runs `work` in a transaction and commits it; an exception rolls it back.

        Cancelling the caller does not undo a transaction that has begun.

        Args:
            work: Called in the writer thread: no asyncio in it, nothing slow.
            cause: The event being handled; what is emitted names it.

        Returns:
            What `work` returned.

        Raises:
            Retry: The file is locked, the disk full or failing.
        """
        loop = asyncio.get_running_loop()

        def committed() -> T:
            with _recoverable(self._path), self._opened().begin() as connection:
                tx = Tx(
                    connection,
                    now=self._clock.now(),
                    cause=cause,
                    service=self.service,
                    env=self.env,
                    new_id=self._new_id,
                )
                result = work(tx)
            if tx.has_emitted:
                loop.call_soon_threadsafe(self.has_outgoing.set)
            for call in tx.calls_after_commit:
                loop.call_soon_threadsafe(call)
            return result

        return await self._run(self._writer, committed)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` on one consistent snapshot that includes every finished transaction.

        Args:
            work: Called in a reader thread; writing fails.

        Raises:
            Retry: The file is locked or failing.
        """

        def snapshot() -> T:
            with _recoverable(self._path), self._opened().connect() as connection:
                reading = connection.execution_options(ciclo_reads=True)
                if self._path:
                    reading.exec_driver_sql("PRAGMA query_only = ON")
                try:
                    return work(reading)
                finally:
                    reading.rollback()
                    if self._path:
                        reading.exec_driver_sql("PRAGMA query_only = OFF")

        return await self._run(self._readers, snapshot)

    async def outbox(self) -> list[tuple[Envelope, Message]]:
        """Returns the events that wait to be published, for the tests of handlers."""
        rows = await self.read(lambda connection: ledger.pending(connection, -1))
        return [decode(row.value, row.headers) for row in rows if row.value is not None]

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        context = contextvars.copy_context()  # log lines of the thread carry the event's id, too
        return await asyncio.get_running_loop().run_in_executor(threads, context.run, work)

    def _opened(self) -> Engine:
        if not self._engine:
            raise Fatal(f"the database of {self.service} is used before start() or after stop()")
        return self._engine

    def _open(self) -> None:
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._engine = _engine(self._path)
        try:
            with self._engine.begin() as connection:
                self._bring_up_to_date(connection)
        except DatabaseError as error:
            raise Fatal(
                f"{self._path} cannot be opened as a SQLite database: {error.orig}",
                reason="DATABASE",
            ) from error

    def _bring_up_to_date(self, connection: Connection) -> None:
        ledger.METADATA.create_all(connection)
        present = len(self._upgrades) + 1
        found = connection.execute(select(ledger.SCHEMA.c.version)).scalar_one_or_none()
        if found is None:
            connection.execute(insert(ledger.SCHEMA).values(version=present))
        elif found > present:
            raise Fatal(
                f"{self._path} has schema version {found}, this {self.service} knows {present}: "
                "start the version of the service that wrote it, or a later one",
                reason="NEWER_SCHEMA",
            )
        else:
            for upgrade in self._upgrades[found - 1 :]:
                upgrade(connection)
            connection.execute(update(ledger.SCHEMA).values(version=present))
        self._metadata.create_all(connection)

    def _shut(self) -> None:
        self._readers.shutdown(wait=True)
        self._writer.shutdown(wait=True)
        if self._engine:
            self._engine.dispose()
            self._engine = None


def _engine(path: Path | None) -> Engine:
    if path:
        engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
    else:
        engine = create_engine(
            "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
        )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin or commit by itself
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("ciclo_reads")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


@contextmanager
def _recoverable(path: Path | None) -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        # The low byte is the primary code; the rest says more about it.
        code = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in _RECOVERABLE:
            raise Retry(f"{path}: {error.orig}", reason="DATABASE_UNAVAILABLE") from error
        raise
