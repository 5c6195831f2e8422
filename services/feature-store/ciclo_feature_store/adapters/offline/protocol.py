"""How service and offline process talk: one line of JSON a request, one an answer."""

from dataclasses import dataclass
from typing import Annotated, Literal, NoReturn

from pydantic import Discriminator

from ciclo.errors import CicloError, Conflict, Fatal, Reject, Retry
from ciclo_feature_store.domain.tasks import AuditTask, DefineTask, SnapshotTask

_KINDS: dict[str, type[CicloError]] = {
    "conflict": Conflict,
    "reject": Reject,
    "retry": Retry,
    "fatal": Fatal,
}


@dataclass(frozen=True, slots=True)
class Request:
    """A task on its way."""

    task: Annotated[DefineTask | SnapshotTask | AuditTask, Discriminator("kind")]


@dataclass(frozen=True, slots=True)
class Failure:
    """A task that did not succeed.

    Attributes:
        error: What the caller should do about it.
        message: See `CicloError`.
        reason: See `CicloError`.
        field: See `CicloError`; empty for none.
    """

    error: Literal["conflict", "reject", "retry", "fatal"]
    message: str
    reason: str
    field: str = ""


def failure_of(error: CicloError) -> Failure:
    """Returns an error as it travels."""
    kind: Literal["conflict", "reject", "retry", "fatal"] = "fatal"
    if isinstance(error, Conflict):
        kind = "conflict"
    elif isinstance(error, Reject):
        kind = "reject"
    elif isinstance(error, Retry):
        kind = "retry"
    return Failure(kind, error.message, error.reason, error.field or "")


def raise_failure(failure: Failure) -> NoReturn:
    """Raises an error that travelled."""
    raise _KINDS[failure.error](failure.message, reason=failure.reason, field=failure.field or None)
