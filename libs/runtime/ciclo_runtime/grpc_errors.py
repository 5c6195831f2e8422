"""Ciclo's errors on the wire: one table each way between them and gRPC status."""

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from ciclo.errors import CicloError, Conflict, Fatal, NotFound, Reject, Retry

DOMAIN = "ciclo"
"""Of every `google.rpc.ErrorInfo`."""

DETAILS_KEY = "grpc-status-details-bin"
"""Trailing metadata in which gRPC carries a `google.rpc.Status`."""

RETRY_AFTER_SECONDS = 1
"""What `google.rpc.RetryInfo` advises."""


class CalleeFaulty(Retry):
    """The callee met with a fault of its own: try again, but not for ever; it may be no accident.

    A caller that makes no difference treats it as any `Retry`.
    """


_STATUS_OF = (
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (Conflict, grpc.StatusCode.FAILED_PRECONDITION),
    (Reject, grpc.StatusCode.INVALID_ARGUMENT),
    (Retry, grpc.StatusCode.UNAVAILABLE),
    (Fatal, grpc.StatusCode.INTERNAL),
)
"""The first line whose class matches counts."""

_ERROR_OF: dict[grpc.StatusCode, type[CicloError]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.INVALID_ARGUMENT: Reject,
    grpc.StatusCode.OUT_OF_RANGE: Reject,
    grpc.StatusCode.PERMISSION_DENIED: Reject,
    grpc.StatusCode.UNAUTHENTICATED: Reject,
    grpc.StatusCode.UNIMPLEMENTED: Reject,
    grpc.StatusCode.INTERNAL: CalleeFaulty,
    grpc.StatusCode.UNKNOWN: CalleeFaulty,
    grpc.StatusCode.DATA_LOSS: CalleeFaulty,
}
"""What a caller should make of a status. The others are the callee's trouble: `Retry`."""


def status_code(error: CicloError) -> grpc.StatusCode:
    """Returns the gRPC status of an error."""
    for kind, code in _STATUS_OF:
        if isinstance(error, kind):
            return code
    return grpc.StatusCode.INTERNAL


def to_status(error: CicloError) -> status_pb2.Status:
    """Returns an error with its reason, metadata, field and advice as `google.rpc` details."""
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    ]
    if error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.message, reason=error.reason
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, Retry):
        delay = duration_pb2.Duration(seconds=RETRY_AFTER_SECONDS)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return _status(status_code(error), error.message, details)


def unexpected_status(error_id: str) -> status_pb2.Status:
    """Returns what a caller learns of a bug: an id that the log has, too, and nothing else."""
    info = error_details_pb2.ErrorInfo(
        reason="INTERNAL", domain=DOMAIN, metadata={"error_id": error_id}
    )
    message = f"internal error {error_id}; the service's log has its cause"
    return _status(grpc.StatusCode.INTERNAL, message, [info])


def from_rpc_error(error: grpc.aio.AioRpcError) -> CicloError:
    """Returns what a failed call means to its caller, reason, field and metadata preserved."""
    kind = _ERROR_OF.get(error.code(), Retry)
    reason, field, metadata = error.code().name, None, {"grpc_code": error.code().name}
    for detail in _details(error):
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            reason = info.reason
            metadata |= dict(info.metadata)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            violations = error_details_pb2.BadRequest.FromString(detail.value).field_violations
            field = violations[0].field if violations else None
    message = error.details() or error.code().name
    return kind(message, reason=reason, field=field, metadata=metadata)


def _details(error: grpc.aio.AioRpcError) -> list[any_pb2.Any]:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            packed = value if isinstance(value, bytes) else value.encode()
            return list(status_pb2.Status.FromString(packed).details)
    return []


def _status(code: grpc.StatusCode, message: str, details: list[Message]) -> status_pb2.Status:
    number: int = code.value[0]
    status = status_pb2.Status(code=number, message=message)
    for detail in details:
        status.details.add().Pack(detail)
    return status
