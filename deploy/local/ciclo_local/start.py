"""The ordered start: each program after those it depends on, ready when its probe says so."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from ciclo_local import supervisor
from ciclo_local.errors import ProgramFailed
from ciclo_local.health import in_one_line
from ciclo_local.ports import address
from ciclo_local.programs import Program
from ciclo_local.settings import Settings
from ciclo_local.supervisor import Supervisor

Say = Callable[[str], None]
"""Takes one line for the person who waits."""

_PROBE_INTERVAL = 0.05
_ATTEMPTS = 3  # a program whose first three starts failed will fail in the fourth


class Start:
    """One ordered start: a thread for each program waits until its probe succeeds.

    Args:
        settings: The stack.
        programs: What must be ready in the end, dependencies first.
        missing: Names of those that do not run yet.
        say: Told of each that got ready.
    """

    def __init__(
        self, settings: Settings, programs: list[Program], missing: set[str], say: Say
    ) -> None:
        self._settings = settings
        self._programs = programs
        self._missing = missing
        self._say = say
        self._stopped = threading.Event()

    def run(self, link: Supervisor) -> None:
        """Returns when all are ready.

        Args:
            link: The supervisord that starts them.

        Raises:
            ProgramFailed: One died in several starts, or took too long.
        """
        waiting = list(self._programs)
        ready: set[str] = set()
        running: dict[Future[float], Program] = {}
        named = {program.name for program in self._programs}
        with ThreadPoolExecutor(len(waiting)) as pool:
            try:
                while waiting or running:
                    for program in [p for p in waiting if named & set(p.depends_on) <= ready]:
                        waiting.remove(program)
                        if program.name in self._missing:
                            link.start(program.name)
                        running[pool.submit(self._wait, program)] = program
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        program = running.pop(future)
                        self._announce(program, future.result())
                        ready.add(program.name)
            except BaseException:
                self._stopped.set()
                raise

    def _announce(self, program: Program, seconds: float) -> None:
        verb = "ready" if program.name in self._missing else "runs already"
        where = address(program.ports[0])
        self._say(f"{program.name:<15} {verb:<13} {seconds:5.1f} s   {where}")

    def _wait(self, program: Program) -> float:
        """Returns after how many seconds the program was ready.

        Raises:
            ProgramFailed: It died in several starts, or takes too long.
        """
        link = Supervisor(self._settings)
        begun = time.monotonic()
        starts: set[int] = set()
        why = "did not answer"
        while not self._stopped.is_set():
            state = link.states()[program.name]
            starts.add(state.started)
            failed = len(starts) - (0 if state.word == "BACKOFF" else 1)
            if failed >= _ATTEMPTS or state.word in ("FATAL", "STOPPED"):
                link.stop(program.name)
                self._fail(program, f"ends as soon as it is started ({state.why})")
            if state.pid:
                try:
                    program.probe()
                    return time.monotonic() - begun
                except Exception as error:  # noqa: BLE001 -- not ready, for whatever reason
                    why = in_one_line(error)
            if time.monotonic() - begun > program.ready_within:
                self._fail(program, f"is not ready after {program.ready_within:.0f} s: {why}")
            self._stopped.wait(_PROBE_INTERVAL)
        return 0.0

    def _fail(self, program: Program, why: str) -> None:
        log = supervisor.log_file(self._settings, program.name)
        raise ProgramFailed(program.name, why, log, supervisor.tail(log))
