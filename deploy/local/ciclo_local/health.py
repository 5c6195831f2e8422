"""How each program is, by its own probe: `ciclo status`, and the start, ask here."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import psutil

from ciclo_local import supervisor
from ciclo_local.ports import address
from ciclo_local.programs import Program, catalogue
from ciclo_local.settings import Settings


@dataclass(frozen=True, slots=True)
class Health:
    """How a program is.

    Args:
        name: The program.
        word: Supervisord's word for it, such as RUNNING; DOWN without a supervisord.
        pid: Its process; 0 if there is none.
        address: Its first port, `host:port`.
        is_ready: Whether its probe succeeded.
        detail: The probe's line, or what went wrong.
        latency_ms: How long the probe took, in milliseconds.
        memory_bytes: Resident memory of it and its children.
    """

    name: str
    word: str
    pid: int
    address: str
    is_ready: bool
    detail: str
    latency_ms: float
    memory_bytes: int


def status(settings: Settings) -> list[Health]:
    """Asks every program how it is, all at once; takes 2 s at most."""
    import aiokafka.admin  # noqa: F401 -- so that no probe's latency is an import's
    import grpc  # noqa: F401

    link = supervisor.connect(settings)
    states = link.states() if link else {}
    programs = list(catalogue(settings).values())
    with ThreadPoolExecutor(len(programs)) as pool:
        return list(pool.map(lambda p: _health(p, states.get(p.name)), programs))


def in_one_line(error: BaseException) -> str:
    """Returns an error in one line; of a gRPC error, its status."""
    code = getattr(error, "code", None)
    name = code().name if callable(code) else type(error).__name__
    text = str(error).splitlines()[0] if str(error) and not callable(code) else ""
    return f"{name}: {text}"[:200] if text else name


def _health(program: Program, state: supervisor.State | None) -> Health:
    begun = time.monotonic()
    word, pid = (state.word, state.pid) if state else ("DOWN", 0)
    is_ready, detail = False, state.why if state and word != "STOPPED" else ""
    if pid:
        try:
            detail, is_ready = program.probe(), True
        except Exception as error:  # noqa: BLE001 -- whatever a probe raises is its answer
            detail = in_one_line(error)
    return Health(
        name=program.name,
        word=word,
        pid=pid,
        address=address(program.ports[0]),
        is_ready=is_ready,
        detail=detail,
        latency_ms=round((time.monotonic() - begun) * 1000, 1) if pid else 0.0,
        memory_bytes=_memory(pid) if pid else 0,
    )


def _memory(pid: int) -> int:
    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                total += one.memory_info().rss
    return total
