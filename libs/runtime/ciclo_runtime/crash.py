"""Named moments at which a test may kill the process; in production they cost one look-up."""

import os
import signal
from enum import StrEnum, unique

VARIABLE = "CICLO_CRASH_AT"
"""Names the moment: `outbox.after_send`, or `outbox.after_send:3` for its third visit."""


@unique
class RuntimeCrash(StrEnum):
    """The moments of this library. A service declares its own in a `StrEnum` like this one."""

    CONSUMER_BEFORE_TRANSACTION = "consumer.before_transaction"
    CONSUMER_IN_TRANSACTION = "consumer.in_transaction"
    CONSUMER_AFTER_TRANSACTION = "consumer.after_transaction"
    CONSUMER_AFTER_COMMIT = "consumer.after_commit"
    OUTBOX_BEFORE_SEND = "outbox.before_send"
    OUTBOX_AFTER_SEND = "outbox.after_send"
    OUTBOX_AFTER_MARK = "outbox.after_mark"


_visits: dict[str, int] = {}


def crash_point(point: StrEnum) -> None:
    """Kills this process with SIGKILL if the environment asks for it here; else does nothing.

    Args:
        point: A declared moment, so that tests can visit all of them.
    """
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    name, _, visit = wanted.partition(":")
    if name != point.value:
        return
    _visits[name] = _visits.get(name, 0) + 1
    if _visits[name] == int(visit or "1"):
        os.kill(os.getpid(), signal.SIGKILL)
