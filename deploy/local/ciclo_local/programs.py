"""The programs of the stack: what each runs, needs, listens on, and when it is ready."""

import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from ciclo_local import envoy, kafka, triton_server
from ciclo_local.errors import BadSetting, NotInstalled
from ciclo_local.ports import address
from ciclo_local.probes import require_yes
from ciclo_local.processes import MARK
from ciclo_local.settings import Settings

SERVICES = ("registry", "feature-store", "trainer", "gateway", "monitor")
"""Our own, in the order in which they start."""


@dataclass(frozen=True, slots=True)
class Program:
    """One program of the stack.

    Args:
        name: What people call it.
        ports: Where it listens; the first is the one others talk to.
        command: Its command line.
        probe: One line about it when it is ready; raises anything when it is not. Takes
            2 s at most. Called from several threads.
        environment: Variables it needs besides those of whoever starts it.
        prepare: What must be done before each start. Runs where the program is not.
        clean: What must be done after it ended for good.
        depends_on: Programs that must be ready before it starts.
        ready_within: Seconds it may take to get ready.
        steady_after: Seconds after which a death is no failed start: the next start is at once.
        stop_within: Seconds between SIGTERM and SIGKILL.
    """

    name: str
    ports: tuple[int, ...]
    command: Callable[[], list[str]]
    probe: Callable[[], str]
    environment: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] = lambda: None
    clean: Callable[[], None] = lambda: None
    depends_on: tuple[str, ...] = ()
    ready_within: float = 120.0
    steady_after: int = 10
    stop_within: float = 30.0


def catalogue(settings: Settings) -> dict[str, Program]:
    """Returns every program of a stack, each after those it depends on."""
    infrastructure = [_kafka(settings), *(_triton(settings, r) for r in triton_server.ROLES)]
    programs = [*infrastructure, _envoy(settings), *(_service(settings, n) for n in SERVICES)]
    return {program.name: program for program in programs}


def select(settings: Settings, names: Iterable[str]) -> list[Program]:
    """Returns the named programs, or all where none is named, in the order of the catalogue.

    Raises:
        BadSetting: A name is unknown.
    """
    known = catalogue(settings)
    wanted = set(names) or set(known)
    if unknown := sorted(wanted - set(known)):
        raise BadSetting(
            f"No program is called {', '.join(unknown)}; expected {', '.join(known)} (--only).",
            field="only",
        )
    return [program for program in known.values() if program.name in wanted]


def module(service: str) -> str:
    """Returns the Python package of a service: `ciclo_feature_store` for `feature-store`."""
    return f"ciclo_{service.replace('-', '_')}"


def service_environment(settings: Settings, service: str) -> dict[str, str]:
    """Returns what a service is told: itself, and where the others are.

    Args:
        settings: The stack.
        service: One of `SERVICES`.
    """
    ports = settings.ports
    own = service.replace("-", "_")
    addresses = {
        f"CICLO_{name.replace('-', '_').upper()}_ADDRESS": address(
            getattr(ports, name.replace("-", "_"))
        )
        for name in SERVICES
    }
    return {
        **addresses,
        "CICLO_ENV": settings.environment,
        "CICLO_KAFKA_BOOTSTRAP": address(ports.kafka),
        "CICLO_GRPC_PORT": str(getattr(ports, own)),
        "CICLO_METRICS_PORT": str(getattr(ports, f"{own}_metrics")),
        "CICLO_TRITON_SERVING_ADDRESS": address(ports.triton_serving),
        "CICLO_TRITON_SHADOW_ADDRESS": address(ports.triton_shadow),
        "CICLO_ENVOY_ADDRESS": address(ports.envoy),
        "CICLO_ENVOY_ADMIN": f"http://{address(ports.envoy_admin)}",
        "CICLO_BLOB_URL": settings.blobs.as_uri(),
        "CICLO_LOG_LEVEL": settings.log_level,
        MARK: str(settings.state),
    }


def _kafka(settings: Settings) -> Program:
    return Program(
        name="kafka",
        ports=(settings.ports.kafka, settings.ports.kafka_controller),
        command=partial(kafka.command, settings),
        probe=partial(kafka.probe, settings),
        prepare=partial(kafka.prepare, settings),
    )


def _triton(settings: Settings, role: str) -> Program:
    http, grpc, metrics = triton_server.ports(settings, role)
    return Program(
        name=f"triton-{role}",
        ports=(grpc, http, metrics),
        command=partial(triton_server.command, settings, role),
        probe=partial(triton_server.probe, settings, role),
        environment=triton_server.environment(settings),
        prepare=partial(triton_server.prepare, settings, role),
        clean=partial(triton_server.clean, settings, role),
        steady_after=1,  # a client's abrupt end may crash it; what it serves should be back soon
        stop_within=15.0,
    )


def _envoy(settings: Settings) -> Program:
    return Program(
        name="envoy",
        ports=(settings.ports.envoy, settings.ports.envoy_admin),
        command=partial(envoy.command, settings),
        probe=partial(envoy.probe, settings),
        prepare=partial(envoy.prepare, settings),
        ready_within=30.0,
        steady_after=1,
        stop_within=5.0,
    )


def _service(settings: Settings, name: str) -> Program:
    # Facts and definitions come first: what asks for them at start finds them.
    first = ("kafka",) if name in ("registry", "feature-store") else ("registry", "feature-store")
    needs = (*first, "triton-serving", "triton-shadow", "envoy") if name == "gateway" else first
    own = name.replace("-", "_")
    port = getattr(settings.ports, own)
    return Program(
        name=name,
        ports=(port, getattr(settings.ports, f"{own}_metrics")),
        command=partial(_service_command, name),
        probe=partial(_service_probe, port),
        environment=service_environment(settings, name),
        depends_on=needs,
    )


def _service_command(name: str) -> list[str]:
    try:
        found = importlib.util.find_spec(f"{module(name)}.__main__")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise NotInstalled(f"The service {name} ({module(name)}) cannot be started: it is missing")
    return [sys.executable, "-m", module(name)]


def _service_probe(port: int) -> str:
    require_yes(port, "/grpc.health.v1.Health/Check")
    return "serving"
