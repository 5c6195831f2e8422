"""`ciclo doctor`: looks at everything the stack needs, and says what is wrong and what to do."""

import platform
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import psutil

from ciclo_local import (
    envoy,
    health,
    kafka,
    kafka_jars,
    processes,
    supervisor,
    triton_environment,
    triton_server,
)
from ciclo_local.errors import NotInstalled
from ciclo_local.programs import SERVICES, catalogue
from ciclo_local.settings import Settings

_GIB = 1 << 30
_DISK_FAIL, _DISK_WARN = 1 * _GIB, 5 * _GIB
_MEMORY_FAIL, _MEMORY_WARN = 1 * _GIB, 3 * _GIB
_OPEN_FILES = 4096  # Kafka holds three files open for each partition's segment


class Level(StrEnum):
    """How bad it is; FAIL means that the stack cannot work so."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        level: How bad it is.
        subject: What was looked at.
        detail: What was seen.
        remedy: What to do; empty if nothing.
    """

    level: Level
    subject: str
    detail: str
    remedy: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Looks at everything; takes about 2 s, changes nothing."""
    checks = (_machine, _space, _installed, _services, _running)
    return [finding for check in checks for finding in check(settings)]


def _machine(_: Settings) -> Iterator[Finding]:
    version = platform.python_version()
    right = sys.version_info[:2] == (3, 11)
    remedy = "" if right else "Make the virtual environment with Python 3.11: `make setup`."
    yield Finding(Level.OK if right else Level.FAIL, "python", version, remedy)
    machine = f"{platform.system()} {platform.machine()}"
    right = machine == "Linux x86_64"
    remedy = "" if right else "Use Linux on x86-64: Triton's wheel exists for nothing else."
    yield Finding(Level.OK if right else Level.FAIL, "machine", machine, remedy)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    right = files == resource.RLIM_INFINITY or files >= _OPEN_FILES
    remedy = "" if right else f"`ulimit -n {_OPEN_FILES}` before `ciclo up`."
    yield Finding(Level.OK if right else Level.WARN, "open files", f"up to {files}", remedy)


def _space(settings: Settings) -> Iterator[Finding]:
    folder = settings.state
    while not folder.exists():
        folder = folder.parent
    free = psutil.disk_usage(str(folder)).free
    remedy = "Free some, or name a state folder on another disk (--state, CICLO_STATE_DIR)."
    yield _amount("disk", free, _DISK_FAIL, _DISK_WARN, f"free at {folder}", remedy)
    memory = psutil.virtual_memory().available
    remedy = "Stop other programs: the stack takes about 2 GiB with all services."
    yield _amount("memory", memory, _MEMORY_FAIL, _MEMORY_WARN, "available", remedy)


def _amount(subject: str, size: int, fail: int, warn: int, where: str, remedy: str) -> Finding:
    level = Level.FAIL if size < fail else Level.WARN if size < warn else Level.OK
    detail = f"{size / _GIB:.1f} GiB {where}"
    return Finding(level, subject, detail, "" if level is Level.OK else remedy)


def _installed(settings: Settings) -> Iterator[Finding]:
    wrong = kafka_jars.differences(kafka.home(settings) / "lib")
    if wrong:
        yield Finding(Level.FAIL, "kafka jars", "; ".join(wrong[:3]), "`make setup`.")
    else:
        detail = f"{kafka.VERSION}, {len(kafka_jars.expected())} digests right"
        yield Finding(Level.OK, "kafka jars", detail)
    if not (kafka.home(settings) / "kafka.aot").exists():
        yield Finding(
            Level.WARN, "kafka cache", "missing: Kafka starts at half the speed", "`make setup`."
        )
    yield _part("java", lambda: str(kafka.java()))
    yield _part("envoy", lambda: envoy.command(settings)[0])
    if triton_environment.is_current(settings):
        yield _part("triton", lambda: str(triton_server.server(settings)))
    else:
        detail = "its environment is missing or was made from another lock"
        yield Finding(Level.FAIL, "triton", detail, "`make setup`.")


def _part(subject: str, find: Callable[[], str]) -> Finding:
    try:
        return Finding(Level.OK, subject, find())
    except NotInstalled as error:
        return Finding(Level.FAIL, subject, error.message, "`make setup`.")


def _services(settings: Settings) -> Iterator[Finding]:
    programs = catalogue(settings)
    for name in SERVICES:
        try:
            programs[name].command()
        except NotInstalled as error:
            yield Finding(Level.FAIL, name, error.message, "`make setup`.")


def _running(settings: Settings) -> Iterator[Finding]:
    if supervisor.connect(settings) is None:
        yield from _ports(settings, set())
        left = [name for name in catalogue(settings) if _is_left_over(settings, name)]
        if left:
            detail = f"without a supervisor: {', '.join(left)}"
            remedy = "`ciclo up` starts them anew, `ciclo down` ends them."
            yield Finding(Level.WARN, "left over", detail, remedy)
        else:
            yield Finding(Level.OK, "stack", "down; `ciclo up` starts it")
        return
    found = health.status(settings)
    yield from _ports(settings, {one.name for one in found if one.pid})
    for one in found:
        if one.is_ready:
            yield Finding(Level.OK, one.name, f"{one.detail}, {one.latency_ms:.0f} ms")
        elif one.word == "STOPPED":
            yield Finding(Level.WARN, one.name, "not started", "`ciclo up`.")
        else:
            log = supervisor.log_file(settings, one.name)
            yield Finding(
                Level.FAIL, one.name, f"{one.word}: {one.detail}", f"Read {log}; then `ciclo up`."
            )


def _ports(settings: Settings, running: set[str]) -> Iterator[Finding]:
    taken = 0
    for program in catalogue(settings).values():
        if program.name in running or _is_left_over(settings, program.name):
            continue
        for port in program.ports:
            if not processes.port_is_free(port):
                taken += 1
                holder = processes.port_holder(port)
                detail = f"{port}, for {program.name}, is held by {holder or 'an unknown process'}"
                end = holder.end if holder else "Stop it"
                remedy = f"{end}, or move the stack: `ciclo up --base-port N`."
                yield Finding(Level.FAIL, "port", detail, remedy)
    if not taken:
        detail = f"{settings.base_port} and up: ours or free"
        yield Finding(Level.OK, "ports", detail)


def _is_left_over(settings: Settings, name: str) -> bool:
    last = processes.recorded(settings, name)
    return last is not None and last.is_alive
