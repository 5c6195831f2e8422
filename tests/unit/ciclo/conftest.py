"""A system that answers commands with what a test says, and keeps what it was asked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from google.protobuf.message import Message
from typer.testing import CliRunner, Result

from ciclo.cli import app, loops, predict, train, why


@dataclass
class Scripted:
    """Stands for a `Connection`.

    Args:
        answers: A message, or the error that the connection would raise, by RPC.
    """

    answers: dict[str, Message | Exception] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=lambda: {"kafka": "nowhere:1"})
    env: str = "test"

    @contextmanager
    def stub(self, service: str, make: object) -> Iterator["Scripted"]:
        del service, make
        yield self

    def __getattr__(self, rpc: str) -> Callable[..., Message]:
        if not rpc[0].isupper():
            raise AttributeError(rpc)

        def call(request: Message, timeout: float) -> Message:
            assert timeout > 0
            self.asked[rpc] = request
            answer = self.answers[rpc]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    def ciclo(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, arguments)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    scripted = Scripted()
    for command in (loops, predict, train, why):
        monkeypatch.setattr(command, "connect", lambda _: scripted)
    return scripted
