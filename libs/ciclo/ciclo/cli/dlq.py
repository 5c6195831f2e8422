"""`ciclo dlq`: what services parked because it was bad, and how it is tried again."""

import asyncio
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from rich.console import Console
from rich.table import Table

from ciclo.cli.connection import DEFAULT_STATE, AsJson, StateDir, connect, print_json
from ciclo.errors import NotFound
from ciclo.topics import DEAD_LETTERS

dlq = typer.Typer(add_completion=False, no_args_is_help=True, help="List and redrive dead letters.")

PREFIX = "dl_"
"""Of the headers that a service adds to a parked record; they are taken off again to redrive."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A parked record: its bytes as they were, and why and where it was parked."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    def said(self, name: str) -> str:
        """Returns what the service said, by name, such as reason, error or attempts."""
        return next((value.decode() for key, value in self.headers if key == PREFIX + name), "")


@dlq.command("list")
def show(state: StateDir = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """List parked records, oldest first."""
    connection = connect(state)
    letters = asyncio.run(_read(connection.addresses["kafka"], DEAD_LETTERS.name(connection.env)))
    if as_json:
        print_json([_plain(letter) for letter in letters])
        return
    if not letters:
        typer.echo("no dead letters")
        return
    table = Table(title="dead letters", title_justify="left")
    for column in ("offset", "service", "from", "reason", "error", "attempts"):
        table.add_column(column)
    for letter in letters:
        place = f"{letter.said('topic')}@{letter.said('offset')}"
        said = [letter.said(name) for name in ("reason", "error", "attempts")]
        table.add_row(str(letter.offset), letter.said("service"), place, *said)
    Console().print(table)


@dlq.command()
def redrive(
    offset: Annotated[int, typer.Argument(help="Offset of the dead letter, as listed.")],
    state: StateDir = DEFAULT_STATE,
) -> None:
    """Send a parked record again to the topic that it came from, with its bytes and headers."""
    connection = connect(state)
    topic = DEAD_LETTERS.name(connection.env)
    asyncio.run(_redrive(connection.addresses["kafka"], topic, offset))
    typer.echo(f"dead letter {offset} was sent again; services that handled it already skip it")


def _plain(letter: DeadLetter) -> dict[str, object]:
    said = {k.removeprefix(PREFIX): v.decode() for k, v in letter.headers if k.startswith(PREFIX)}
    return {**said, "offset": letter.offset, "bytes": len(asdict(letter)["value"] or b"")}


async def _read(bootstrap: str, topic: str) -> list[DeadLetter]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        end = (await consumer.end_offsets([partition]))[partition]
        consumer.assign([partition])
        await consumer.seek_to_beginning()
        letters: list[DeadLetter] = []
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                letters += [DeadLetter(r.offset, r.key, r.value, tuple(r.headers)) for r in records]
        return letters
    finally:
        await consumer.stop()


async def _redrive(bootstrap: str, topic: str, offset: int) -> None:
    letter = next((x for x in await _read(bootstrap, topic) if x.offset == offset), None)
    if letter is None:
        raise NotFound(f"there is no dead letter {offset}; see `ciclo dlq list`")
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        headers = [(name, value) for name, value in letter.headers if not name.startswith(PREFIX)]
        await producer.send_and_wait(
            letter.said("topic"), letter.value, key=letter.key, headers=headers
        )
    finally:
        await producer.stop()
