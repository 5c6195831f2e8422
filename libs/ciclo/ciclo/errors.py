"""What can go wrong, by what the caller should do about it; every distribution raises these."""

from collections.abc import Mapping


class CicloError(Exception):
    """The root of every error that Ciclo raises on purpose.

    Args:
        message: What happened, where, what was expected, and what to do.
        reason: A stable UPPER_SNAKE_CASE word that programs may compare.
        field: The path of the offending input, if one is to blame.
        metadata: Further facts, for logs and for `google.rpc.ErrorInfo`.
    """

    reason = "UNSPECIFIED"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        field: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or type(self).reason
        self.field = field
        self.metadata = dict(metadata or {})


class Retry(CicloError):
    """Something else must recover first: wait, back off, try the same again."""

    reason = "UNAVAILABLE"


class Reject(CicloError):
    """This input is bad and will stay bad: refuse it, keep it, go on with the next."""

    reason = "INVALID_ARGUMENT"


class NotFound(Reject):
    """The input names something that does not exist."""

    reason = "NOT_FOUND"


class Conflict(Reject):
    """The input is well formed, but the present state does not allow it."""

    reason = "FAILED_PRECONDITION"


class Fatal(CicloError):
    """This process cannot go on: stop it, so that the supervisor starts a fresh one."""

    reason = "FATAL"
