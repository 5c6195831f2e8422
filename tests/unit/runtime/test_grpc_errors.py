import grpc
import pytest
from google.rpc import error_details_pb2

from ciclo.errors import CicloError, Conflict, Fatal, NotFound, Reject, Retry
from ciclo_runtime.grpc_errors import (
    DETAILS_KEY,
    CalleeFaulty,
    from_rpc_error,
    status_code,
    to_status,
    unexpected_status,
)


def over_the_wire(error: CicloError) -> CicloError:
    status = to_status(error)
    metadata = grpc.aio.Metadata((DETAILS_KEY, status.SerializeToString()))
    return from_rpc_error(
        grpc.aio.AioRpcError(
            status_code(error), grpc.aio.Metadata(), metadata, details=status.message
        )
    )


@pytest.mark.parametrize("kind", [Retry, Reject, NotFound, Conflict])
def test_an_error_arrives_as_what_it_was_with_all_it_carried(kind: type[CicloError]) -> None:
    sent = kind("what and where", reason="WHY", field="rows[2].id", metadata={"model": "flights"})

    arrived = over_the_wire(sent)

    assert type(arrived) is kind
    assert (arrived.message, arrived.reason, arrived.field) == (
        "what and where",
        "WHY",
        "rows[2].id",
    )
    assert arrived.metadata["model"] == "flights"


def test_the_callers_process_outlives_the_callees() -> None:
    assert type(over_the_wire(Fatal("broken"))) is CalleeFaulty


def test_advice_to_retry_comes_with_retry_alone() -> None:
    def kinds(error: CicloError) -> list[str]:
        return [detail.TypeName() for detail in to_status(error).details]

    assert kinds(Retry("x")) == ["google.rpc.ErrorInfo", "google.rpc.RetryInfo"]
    assert kinds(Reject("x")) == ["google.rpc.ErrorInfo"]
    assert kinds(Reject("x", field="a")) == ["google.rpc.ErrorInfo", "google.rpc.BadRequest"]


def test_a_bug_tells_its_id_and_nothing_else() -> None:
    status = unexpected_status("id-1")
    info = error_details_pb2.ErrorInfo.FromString(status.details[0].value)

    assert status.code == grpc.StatusCode.INTERNAL.value[0]
    assert info.metadata == {"error_id": "id-1"}


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_every_status_means_something_to_a_caller(code: grpc.StatusCode) -> None:
    bare = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())

    error = from_rpc_error(bare)

    assert isinstance(error, Retry | Reject)
    assert error.reason == code.name
