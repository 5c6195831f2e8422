"""What a command says when a service refuses or does not answer."""

from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from ciclo.cli.connection import Connection
from ciclo.errors import CicloError, NotFound, Retry

CODE = grpc.StatusCode


class Refused(grpc.RpcError):
    """A failed call, with the details that a service of ours sends along; none without a field."""

    def __init__(self, code: grpc.StatusCode, words: str, *fields: tuple[str, str]) -> None:
        self._code, self._words = code, words
        self._status = status_pb2.Status(code=code.value[0], message=words)
        for name, description in fields:
            violation = error_details_pb2.BadRequest.FieldViolation(
                field=name, description=description
            )
            detail = error_details_pb2.BadRequest(field_violations=[violation])
            self._status.details.add().Pack(detail)

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._words

    def trailing_metadata(self) -> list[tuple[str, bytes]]:
        if not self._status.details:
            return []
        return [("grpc-status-details-bin", self._status.SerializeToString())]


@pytest.mark.parametrize(
    ("refused", "kind", "says"),
    [
        (Refused(CODE.UNAVAILABLE, "x"), Retry, "registry does not answer at nowhere:1"),
        (Refused(CODE.UNAVAILABLE, "being read", ("model", "of it")), Retry, "being read"),
        (Refused(CODE.NOT_FOUND, "no model 'nope'"), NotFound, "no model 'nope'"),
        (Refused(CODE.INVALID_ARGUMENT, "two things", ("a", "b")), CicloError, "\n  a: b"),
    ],
)
def test_a_refusal_is_told_in_the_services_own_words(refused, kind, says):
    connection = Connection("test", {"registry": "nowhere:1"}, Path())
    with pytest.raises(kind) as caught, connection.stub("registry", lambda _: None):
        raise refused
    assert type(caught.value) is kind
    assert says in caught.value.message


def test_a_field_that_stands_for_the_whole_refusal_is_not_told_twice():
    connection = Connection("test", {"registry": "nowhere:1"}, Path())
    with pytest.raises(CicloError) as caught, connection.stub("registry", lambda _: None):
        raise Refused(CODE.NOT_FOUND, "no model", ("model", "no model"))
    assert caught.value.message == "registry: no model"
