"""Brings the stack up in order and takes it down without remains."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from ciclo_local import processes, supervisor
from ciclo_local.errors import PortInUse, SettingsChanged, StackBusy, StackRunning
from ciclo_local.programs import Program, catalogue, select
from ciclo_local.settings import Settings, load, purge
from ciclo_local.start import Say, Start
from ciclo_local.supervisor import DAEMON, Supervisor

_POLL_INTERVAL = 0.05


def up(settings: Settings, only: Iterable[str] = (), say: Say = lambda _: None) -> None:
    """Starts the programs that do not run, and returns when every one named is ready.

    Idempotent. What a killed supervisord left running is ended first. If it is
    interrupted, what this call started is stopped again.

    Args:
        settings: The stack.
        only: Names of programs; none means all.
        say: Told of each program that got ready.

    Raises:
        CicloError: A port is taken, a part is not installed, a program does not come up,
            the stack runs with other settings, or its supervisor runs and does not answer.
    """
    programs = select(settings, only)
    settings.state.mkdir(parents=True, exist_ok=True)
    with _exclusive(settings):
        link = supervisor.connect(settings)
        if link:
            _require_same_settings(settings)
        else:
            require_down(settings, [DAEMON], but="its supervisor does not answer")
            _end_leftovers(settings, say)
        states = link.states() if link else {}
        missing = [p for p in programs if not (p.name in states and states[p.name].is_up)]
        for program in missing:
            program.command()  # says now, and not in a log, that a part is not installed
            _require_free_ports(program)
        if missing:
            names = ", ".join(program.name for program in missing)
            say(f"Starting {names}; logs are in {settings.log}.")
        settings.save()
        link = link or supervisor.start_daemon(settings)
        try:
            Start(settings, programs, {p.name for p in missing}, say).run(link)
        except KeyboardInterrupt:
            say("Interrupted: stopping what was started.")
            link = Supervisor(settings)  # the other may have been cut off in the middle of a call
            _stop(link, missing, say)
            if not any(state.is_up for state in link.states().values()):
                _finish(settings, link)
            raise


def down(settings: Settings, *, with_data: bool = False, say: Say = lambda _: None) -> None:
    """Stops everything, dependents first; leaves no process, pid file, socket or shared memory.

    Idempotent. Works as well after a kill of anything, supervisord included.

    Args:
        settings: The stack.
        with_data: Whether to delete the state folder too.
        say: Told of each program that stopped.

    Raises:
        CicloError: Another command is at work, or the folder to delete is no stack's.
    """
    if settings.state.exists():
        with _exclusive(settings):
            if link := supervisor.connect(settings):
                _stop(link, list(catalogue(settings).values()), say)
                _finish(settings, link)
            _end_leftovers(settings, say)
            if with_data:
                purge(settings)


def stop(settings: Settings, names: Iterable[str], say: Say = lambda _: None) -> None:
    """Stops the named programs and nothing else; `up` starts them again.

    Args:
        settings: The stack.
        names: At least one name.
        say: Told of each program that stopped.
    """
    with _exclusive(settings):
        if link := supervisor.connect(settings):
            _stop(link, select(settings, names), say)


def require_down(settings: Settings, names: Iterable[str] = (), *, but: str = "") -> None:
    """Returns if nothing of a stack runs: for whoever would start from an empty folder.

    Args:
        settings: The stack.
        names: What must not run; none means supervisord and every program.
        but: What is wrong with it, for the error.

    Raises:
        StackRunning: Something of it runs.
    """
    for name in list(names) or [DAEMON, *catalogue(settings)]:
        last = processes.recorded(settings, name)
        if last and last.is_alive:
            raise StackRunning(settings.state, last.pid, last.started, but)


def _stop(link: Supervisor, programs: list[Program], say: Say) -> None:
    """Stops programs, each after those that depend on it."""
    left = {program.name: program for program in programs}
    asked: set[str] = set()
    while left:
        states = link.states()
        for name in [n for n in left if not states[n].pid and not states[n].is_up]:
            program = left.pop(name)
            program.clean()
            if name in asked:
                say(f"{name:<15} stopped")
        needed = {need for program in left.values() for need in program.depends_on}
        for name in set(left) - needed - asked:
            link.stop(name)
            asked.add(name)
        time.sleep(_POLL_INTERVAL)


def _finish(settings: Settings, link: Supervisor) -> None:
    link.shutdown()
    _end_leftovers(settings, lambda _: None)


def _end_leftovers(settings: Settings, say: Say) -> None:
    """Ends what a killed supervisord, or a killed program's children, left; then the pid files."""
    processes.end(settings, DAEMON, grace=10.0)
    programs = catalogue(settings).values()
    with ThreadPoolExecutor(len(programs)) as pool:
        ended = pool.map(lambda p: processes.end(settings, p.name, p.stop_within), programs)
        for program, found in zip(programs, ended, strict=True):
            program.clean()
            if found:
                say(f"{program.name:<15} was left over and has been stopped")
    shutil.rmtree(settings.run, ignore_errors=True)
    socket = supervisor.socket_path(settings)
    if socket.parent != settings.run:
        shutil.rmtree(socket.parent, ignore_errors=True)


def _require_same_settings(settings: Settings) -> None:
    running = load(settings.state)
    if running != settings:
        raise SettingsChanged(
            f"The stack in {settings.state} runs as environment {running.environment!r} at base"
            f" port {running.base_port} with log level {running.log_level!r}, not as"
            f" {settings.environment!r} at {settings.base_port} with {settings.log_level!r}:"
            " `ciclo down` first."
        )


def _require_free_ports(program: Program) -> None:
    for port in program.ports:
        if not processes.port_is_free(port):
            holder = processes.port_holder(port)
            raise PortInUse(port, program.name, holder, *([holder.end] if holder else []))


@contextmanager
def _exclusive(settings: Settings) -> Iterator[None]:
    """Keeps a second `up` or `down` out: a lock on the folder itself leaves no file behind."""
    descriptor = os.open(settings.state, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackBusy(
                f"Another command is starting or stopping the stack in {settings.state}:"
                " wait for it and try again."
            ) from None
        yield
    finally:
        os.close(descriptor)
