from hypothesis import given
from hypothesis import strategies as st

from ciclo_runtime.database import Database
from ciclo_runtime.ledger import forget_sent, pack_headers, pending, remember, unpack_headers
from ciclo_runtime.transaction import Tx


@given(st.lists(st.tuples(st.text(), st.binary()), max_size=6))
def test_headers_come_back_as_they_were(headers: list[tuple[str, bytes]]) -> None:
    assert unpack_headers(pack_headers(tuple(headers))) == tuple(headers)


async def test_an_event_is_remembered_once_for_each_consumer(database: Database) -> None:
    def twice(tx: Tx) -> list[bool]:
        names = ["a", "a", "b"]
        return [remember(tx.connection, name, "event-1", tx.now) for name in names]

    assert await database.transaction(twice) == [True, False, True]


async def test_the_outbox_keeps_its_order_and_never_reuses_a_place(database: Database) -> None:
    def fill(tx: Tx) -> None:
        for number in range(3):
            tx.enqueue("topic", b"k", bytes([number]), ())

    await database.transaction(fill)
    rows = await database.read(lambda connection: pending(connection, 10))
    await database.transaction(
        lambda tx: forget_sent(tx.connection, [row.sequence for row in rows])
    )
    await database.transaction(lambda tx: tx.enqueue("topic", None, None, (("a", b"b"),)))
    (last,) = await database.read(lambda connection: pending(connection, 10))

    assert [row.value for row in rows] == [b"\x00", b"\x01", b"\x02"]
    assert last.sequence > rows[-1].sequence
    assert (last.key, last.value, last.headers) == (None, None, (("a", b"b"),))
