"""What can go wrong with the local stack; every message says what to do about it."""

from datetime import datetime
from pathlib import Path

from ciclo.errors import Conflict, Fatal, Reject, Retry


class BadSetting(Reject):
    """A flag or a variable does not hold what it should."""

    reason = "SETTINGS"


class StackBusy(Retry):
    """Another command is starting or stopping the same stack."""

    reason = "STACK_BUSY"


class SettingsChanged(Conflict):
    """The stack runs, but with other settings than those asked for."""

    reason = "SETTINGS_CHANGED"


class StackRunning(Conflict):
    """A stack runs where none should.

    Args:
        state: Its folder.
        pid: One of its processes.
        started: When that one started.
        but: What is wrong with it; may be empty.
    """

    reason = "STACK_RUNNING"

    def __init__(self, state: Path, pid: int, started: datetime, but: str = "") -> None:
        super().__init__(
            f"The stack in {state} is running (pid {pid}), started {started:%Y-%m-%d %H:%M:%S}"
            f"{but and f', but {but}'}: `ciclo down --state {state}` ends it."
        )
        self.pid = pid


class NotInstalled(Conflict):
    """A part of the stack is missing or is not the one that was pinned."""

    reason = "NOT_INSTALLED"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}. Run `make setup`, which fetches and checks it.")


class InstallFailed(Retry):
    """Fetching a part of the stack did not work; what was fetched is kept for the next attempt."""

    reason = "INSTALL_FAILED"


class PortInUse(Conflict):
    """Somebody else listens where a program of the stack should.

    Args:
        port: The port.
        program: Who needs it.
        holder: Who listens there; None: not to be seen.
        remedy: What ends that one.
    """

    reason = "PORT_IN_USE"

    def __init__(
        self, port: int, program: str, holder: object, remedy: str = "Stop what listens there"
    ) -> None:
        super().__init__(
            f"Port {port}, which {program} needs, is in use"
            f"{f' by {holder}' if holder else ''}. {remedy}, or move the whole stack that you"
            " start: `ciclo up --base-port N` (or CICLO_BASE_PORT=N)."
        )
        self.port = port


class ProgramFailed(Fatal):
    """A program did not come up.

    Args:
        program: Its name.
        why: What was seen.
        log: Its log file.
        tail: The last lines of that file.
    """

    reason = "PROGRAM_FAILED"

    def __init__(self, program: str, why: str, log: Path, tail: list[str]) -> None:
        last = "\n".join(f"    {line}" for line in tail) or "    (the log is empty)"
        super().__init__(
            f"{program} {why}. Its last log lines ({log}):\n{last}\n"
            "The others are left as they are: `ciclo up` tries again, `ciclo down` stops all."
        )
        self.program = program
