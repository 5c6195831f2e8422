"""supervisord: its configuration, its start, and the calls that start and stop programs."""

import os
import shlex
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from supervisor.xmlrpc import Faults, SupervisorTransport

from ciclo_local import processes
from ciclo_local.errors import BadSetting, ProgramFailed
from ciclo_local.programs import Program, catalogue
from ciclo_local.settings import Settings, replace

DAEMON = "supervisord"
"""The name under which the daemon itself is recorded and logs."""

_LONGEST_SOCKET_PATH = 107
_PID_SUFFIX = 12  # supervisord binds PATH.PID first, then renames
_START_TIMEOUT = 20.0
_STOP_TIMEOUT = 60.0

_DAEMON = """\
[unix_http_server]
file={socket}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[supervisord]
logfile={log}
logfile_maxbytes=5MB
logfile_backups=1
pidfile={pidfile}
childlogdir={folder}
directory={state}
"""

_PROGRAM = """
[program:{name}]
command={command}
autostart=false
autorestart=true
startsecs={steady_after}
startretries=20
stopwaitsecs={stop_within}
killasgroup=true
redirect_stderr=true
stdout_logfile={log}
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=2
"""


@dataclass(frozen=True, slots=True)
class State:
    """What supervisord knows of a program.

    Args:
        name: The program.
        word: STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL or UNKNOWN.
        pid: Its process; 0 while there is none.
        started: When the last attempt to start it began, in seconds since the epoch; 0: never.
        why: What supervisord says of its last end; may be empty.
    """

    name: str
    word: str
    pid: int
    started: int
    why: str

    @property
    def is_up(self) -> bool:
        """Whether supervisord sees to it that the program runs."""
        return self.word in ("STARTING", "RUNNING", "BACKOFF")


def socket_path(settings: Settings) -> Path:
    """Returns the daemon's socket: in the state folder, or a short temporary one.

    A socket's path is limited to 107 bytes, and state folders lie deep in some trees.
    """
    path = settings.run / "supervisor.sock"
    if len(str(path).encode()) + _PID_SUFFIX <= _LONGEST_SOCKET_PATH:
        return path
    return Path(tempfile.gettempdir()) / f"ciclo-{settings.digest}" / "supervisor.sock"


def render(settings: Settings, programs: Iterable[Program]) -> str:
    """Returns the text of supervisord.conf.

    A program that dies before it counts as steady is tried again after 1, 2, 3… seconds;
    a steady one is started again at once.
    """

    def quote(value: object) -> str:
        return str(value).replace("%", "%%")

    text = _DAEMON.format(
        socket=quote(socket_path(settings)),
        log=quote(log_file(settings, DAEMON)),
        pidfile=quote(settings.run / "supervisord.pid"),
        folder=quote(settings.log),
        state=quote(settings.state),
    )
    for program in programs:
        command = [sys.executable, "-m", "ciclo_local.launch", str(settings.state), program.name]
        text += _PROGRAM.format(
            name=program.name,
            command=quote(shlex.join(command)),
            steady_after=program.steady_after,
            stop_within=int(program.stop_within),
            log=quote(log_file(settings, program.name)),
        )
    return text


def log_file(settings: Settings, name: str) -> Path:
    """Returns a program's log file; rotated at 5 MB, two old ones are kept."""
    return settings.log / f"{name}.log"


def tail(path: Path, lines: int = 12) -> list[str]:
    """Returns the last lines of a log file; none if there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16384))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []


class Supervisor:
    """A running supervisord. Not for use from several threads at once: make one for each.

    Args:
        settings: The stack.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        transport = SupervisorTransport(None, None, f"unix://{socket_path(settings)}")
        proxy = xmlrpc.client.ServerProxy("http://localhost", transport=transport)
        self._call = cast("Any", proxy).supervisor

    def states(self) -> dict[str, State]:
        """Returns the state of every program.

        Raises:
            OSError: The daemon does not answer.
        """
        return {
            info["name"]: State(
                name=info["name"],
                word=info["statename"],
                pid=info["pid"],
                started=info["start"],
                why=info["spawnerr"] or info["description"],
            )
            for info in self._call.getAllProcessInfo()
        }

    def start(self, name: str) -> None:
        """Starts a program; returns at once. Does nothing if it is up."""
        with _tolerating(Faults.ALREADY_STARTED):
            self._call.startProcess(name, False)

    def stop(self, name: str) -> None:
        """Begins to stop a program; returns at once. Does nothing if it is not up."""
        with _tolerating(Faults.NOT_RUNNING):
            self._call.stopProcess(name, False)

    def shutdown(self) -> None:
        """Stops what still runs and ends the daemon; returns when it is gone."""
        daemon = processes.recorded(self._settings, DAEMON)
        with suppress(OSError):
            self._call.shutdown()
        deadline = time.monotonic() + _STOP_TIMEOUT
        while daemon and daemon.is_alive and time.monotonic() < deadline:
            time.sleep(0.02)


def connect(settings: Settings) -> Supervisor | None:
    """Returns the stack's supervisord if one runs and answers, else None."""
    link = Supervisor(settings)
    try:
        link.states()
    except (OSError, xmlrpc.client.Error):
        return None
    return link


def start_daemon(settings: Settings) -> Supervisor:
    """Starts supervisord; it puts itself into the background, away from the terminal.

    Raises:
        ProgramFailed: It did not come up.
    """
    for folder in (settings.run, settings.log, settings.blobs):
        folder.mkdir(parents=True, exist_ok=True)
    _make_socket_folder(settings)
    conf = settings.run / "supervisord.conf"
    replace(conf, render(settings, catalogue(settings).values()))
    done = subprocess.run(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(conf)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    log = log_file(settings, DAEMON)
    if done.returncode:
        raise ProgramFailed(DAEMON, "did not start", log, done.stdout.splitlines()[-12:])
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        link = connect(settings)
        with suppress(FileNotFoundError, ValueError):
            if link:
                pid = int((settings.run / "supervisord.pid").read_text())
                processes.record(settings, DAEMON, pid)
                return link
        time.sleep(0.02)
    raise ProgramFailed(DAEMON, f"did not answer in {_START_TIMEOUT:.0f} s", log, tail(log))


@contextmanager
def _tolerating(code: int) -> Iterator[None]:
    """Lets one fault pass: the state asked for already holds."""
    try:
        yield
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != code:
            raise


def _make_socket_folder(settings: Settings) -> None:
    """Makes the socket's folder; a temporary one must be ours alone, or it could be a trap."""
    folder = socket_path(settings).parent
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if folder != settings.run and (status.st_uid != os.getuid() or status.st_mode & 0o077):
        raise BadSetting(
            f"{folder} should hold the supervisor's socket, but is not private to you: delete it,"
            " or name a state folder with a shorter path (--state, CICLO_STATE_DIR).",
            field="state",
        )
    socket_path(settings).unlink(missing_ok=True)
