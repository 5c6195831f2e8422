"""Where the services are, and how a command reaches them: shared by all commands."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar, cast

import grpc
import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest
from grpc_status import rpc_status

from ciclo.errors import CicloError, NotFound, Retry

S = TypeVar("S")

DEADLINE_SECONDS = 30.0
"""How long a command waits for an answer. Loads and snapshots run after the answer."""

StateDir = Annotated[
    Path, typer.Option("--state", envvar="CICLO_STATE_DIR", help="State folder of the system.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Model = Annotated[str, typer.Argument(help="Name of the model, as in loop.yaml.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the audit chain.")]

DEFAULT_STATE = Path(".ciclo")
"""State folder where none is named."""

KINDS = {grpc.StatusCode.NOT_FOUND: NotFound, grpc.StatusCode.UNAVAILABLE: Retry}
"""What a status means where that makes a difference to a command."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A running system: its environment's name and addresses by what answers there."""

    env: str
    addresses: dict[str, str]
    state: Path

    @contextmanager
    def stub(self, service: str, make: Callable[[grpc.Channel], S]) -> Iterator[S]:
        """Yields a client of a service; errors become one clear line.

        Raises:
            NotFound: The service knows no such thing.
            CicloError: The service refused for another reason, with its own words.
            Retry: The service does not answer.
        """
        address = self.addresses[service]
        with grpc.insecure_channel(address) as channel:
            try:
                yield make(channel)
            except grpc.RpcError as error:
                raise _told(service, address, error) from error


def connect(state: Path) -> Connection:
    """Returns the running system of a state folder.

    Raises:
        Retry: No system was started from there.
    """
    path = state / "stack.json"
    try:
        stack = json.loads(path.read_text())
    except FileNotFoundError:
        raise Retry(
            f"no system was started from {state.absolute()}, as it holds no stack.json: name the "
            "state folder of one with --state or CICLO_STATE_DIR, or start one with "
            f"`ciclo up --state {state}`"
        ) from None
    found = {
        name: os.environ.get(f"CICLO_{name.upper().replace('-', '_')}_ADDRESS", address)
        for name, address in stack["addresses"].items()
    }
    return Connection(stack["environment"], found, state)


def _told(service: str, address: str, error: grpc.RpcError) -> CicloError:
    status = rpc_status.from_call(cast("grpc.Call", error))
    if error.code() == grpc.StatusCode.UNAVAILABLE and not status:  # not in a service's own words
        return Retry(f"{service} does not answer at {address}: look at `ciclo status`")
    text = f"{service}: {error.details()}"
    for detail in status.details if status else ():
        fields = BadRequest()
        if detail.Unpack(fields):
            text += "".join(
                f"\n  {v.field}: {v.description}"
                for v in fields.field_violations
                if v.description != error.details()  # one that stands for all has been told
            )
    return KINDS.get(error.code(), CicloError)(text)


def print_json(message: Message | dict[str, object] | list[dict[str, object]]) -> None:
    """Prints a message, or plain values, as JSON."""
    plain = as_dict(message) if isinstance(message, Message) else message
    typer.echo(json.dumps(plain, indent=2, default=str))


def as_dict(message: Message) -> dict[str, object]:
    """Returns a message as plain values; absent fields are there with their defaults."""
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
