"""Which processes are ours: each program is recorded by pid and start time when it starts.

A pid alone may long belong to somebody else, so nothing is signalled without this check.
"""

import json
import os
import signal
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import psutil

from ciclo_local.ports import LOOPBACK
from ciclo_local.settings import Settings, replace

MARK = "CICLO_STATE_DIR"
"""Variable that every process of a stack inherits; holds the state folder."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A process, told apart from a later one that got the same pid.

    Args:
        pid: Its id; also its process group's, since supervisord starts each program in one.
        start_ticks: When the kernel started it, in clock ticks since boot.
    """

    pid: int
    start_ticks: int

    @property
    def is_alive(self) -> bool:
        """Whether this very process runs."""
        return _start_ticks(self.pid) == self.start_ticks

    @property
    def started(self) -> datetime:
        """When it started, in local time. Only of one that is alive."""
        return datetime.fromtimestamp(psutil.Process(self.pid).create_time()).astimezone()

    def group(self, settings: Settings) -> list[psutil.Process]:
        """Returns this process, if it runs, and those of its group that carry the stack's mark.

        The kernel gives no new process the id of a group that still has members; if
        the pid belongs to somebody else by now, the group is gone.
        """
        if psutil.pid_exists(self.pid) and not self.is_alive:
            return []
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                if os.getpgid(process.pid) != self.pid:
                    continue
                if process.pid == self.pid or process.environ().get(MARK) == str(settings.state):
                    found.append(process)
        return found


def record(settings: Settings, name: str, pid: int) -> None:
    """Notes that `pid` is the program called `name`."""
    ticks = _start_ticks(pid)
    if ticks is not None:
        replace(settings.run / f"{name}.json", json.dumps(asdict(Recorded(pid, ticks))))


def recorded(settings: Settings, name: str) -> Recorded | None:
    """Returns the last process recorded under `name`, which may have ended."""
    try:
        return Recorded(**json.loads((settings.run / f"{name}.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def end(settings: Settings, name: str, grace: float) -> bool:
    """Ends what is left of the process recorded under `name`, and of its group.

    Args:
        settings: The stack.
        name: The program.
        grace: Seconds between SIGTERM and SIGKILL. >= 0.

    Returns:
        Whether there was anything to end.
    """
    last = recorded(settings, name)
    found = last.group(settings) if last else []
    # The program ends its own children in good order; orphans have nobody who would.
    asked = [process for process in found if last and process.pid == last.pid] or found
    for processes, sign, wait in ((asked, signal.SIGTERM, grace), (found, signal.SIGKILL, 5.0)):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(sign)
        psutil.wait_procs(processes, timeout=wait)
    return bool(found)


def port_is_free(port: int) -> bool:
    """Whether a server could listen on a loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT is no listener
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that listens on a port.

    Args:
        name: Its name.
        pid: Its id.
        stack: State folder of the stack that it belongs to; None: of none, or not to be seen.
    """

    name: str
    pid: int
    stack: Path | None

    def __str__(self) -> str:
        """Returns `name (pid N)`, and whose it is."""
        whose = f" of the Ciclo stack in {self.stack}" if self.stack else ""
        return f"{self.name} (pid {self.pid}){whose}"

    @property
    def end(self) -> str:
        """What ends it."""
        return f"`ciclo down --state {self.stack}` ends it" if self.stack else "Stop it"


def port_holder(port: int) -> Holder | None:
    """Returns the process that listens on a port, None if it may not be seen."""
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,):
            with suppress(psutil.Error):
                if connection.pid:
                    process = psutil.Process(connection.pid)
                    return Holder(process.name(), process.pid, _stack(process))
    return None


def _stack(process: psutil.Process) -> Path | None:
    """The mark alone does not tell: people export this variable for their own programs, too."""
    with suppress(psutil.Error, OSError, ValueError, LookupError):
        state = Path(process.environ()[MARK])
        group = os.getpgid(process.pid)
        if any(json.loads(r.read_text())["pid"] == group for r in state.glob("run/*.json")):
            return state
    return None


def _start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat: unlike psutil's seconds, no change of the clock moves it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    after_name = stat.rpartition(")")[2].split()
    return None if after_name[0] == "Z" else int(after_name[19])
