"""Triton: its command line and environment, the models it starts with, and what readiness means."""

import os
import re
import sys
import sysconfig
from pathlib import Path

from ciclo_local.errors import NotInstalled
from ciclo_local.ports import LOOPBACK
from ciclo_local.probes import require_yes
from ciclo_local.settings import Settings

VERSION = "2.51"
"""Of the server inside the wheel that `deploy/triton/requirements.lock` pins."""

ROLES = ("serving", "shadow")
"""A Triton each: a challenger that is being tried can neither slow nor crash what serves."""

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 -- where the Python backend's regions lie


def home(settings: Settings) -> Path:
    """Returns the folder of Triton's own virtual environment and backends."""
    return settings.stack_home / "triton"


def server(settings: Settings) -> Path:
    """Returns the folder that the wheel brings.

    Raises:
        NotInstalled: It is missing.
    """
    path = _site(settings) / "pytriton" / "tritonserver"
    if not (home(settings) / "backends" / "python" / "triton_python_backend_stub").exists():
        raise NotInstalled(f"Triton is missing in {home(settings)}")
    return path


def models(settings: Settings, role: str) -> list[str]:
    """Returns the names to load at start: the gateway's last good list, `models.list`.

    A name that is malformed, or has no folder, is left out: one bad line must not keep
    the others from being served.
    """
    folder = settings.triton(role)
    try:
        lines = (folder / "models.list").read_text().splitlines()
    except FileNotFoundError:
        return []
    names = [line.strip() for line in lines if _MODEL.fullmatch(line.strip())]
    return [name for name in names if (folder / "models" / name / "config.pbtxt").exists()]


def command(settings: Settings, role: str) -> list[str]:
    """Returns the command line of the Triton called `role`."""
    http, grpc, metrics = ports(settings, role)
    wheel = server(settings)
    return [
        str(wheel / "bin" / "tritonserver"),
        f"--model-repository={settings.triton(role) / 'models'}",
        f"--backend-directory={home(settings) / 'backends'}",
        f"--cache-directory={wheel / 'caches'}",
        "--model-control-mode=explicit",
        # A model that no longer loads must not keep the others from being served.
        "--exit-on-error=false",
        f"--backend-config=python,shm-region-prefix-name={_region(settings, role)}",
        *(f"--load-model={name}" for name in models(settings, role)),
        f"--http-address={LOOPBACK}",
        f"--grpc-address={LOOPBACK}",
        f"--metrics-address={LOOPBACK}",
        f"--http-port={http}",
        f"--grpc-port={grpc}",
        f"--metrics-port={metrics}",
        "--allow-gpu-metrics=false",
        "--exit-timeout-secs=5",
        "--log-info=false",
    ]


def environment(settings: Settings) -> dict[str, str]:
    """Returns the variables with which the server and its Python stubs find their libraries."""
    site = _site(settings)
    return {
        "LD_LIBRARY_PATH": f"{site / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}",
        "PATH": f"{home(settings) / 'venv' / 'bin'}:{os.environ.get('PATH', os.defpath)}",
        "PYTHONHOME": sys.base_prefix,
        "PYTHONPATH": str(site),
        "OMP_NUM_THREADS": "1",
    }


def ports(settings: Settings, role: str) -> tuple[int, int, int]:
    """Returns the HTTP, gRPC and metrics ports of the Triton called `role`."""
    p = settings.ports
    if role == "serving":
        return p.triton_serving_http, p.triton_serving, p.triton_serving_metrics
    return p.triton_shadow_http, p.triton_shadow, p.triton_shadow_metrics


def prepare(settings: Settings, role: str) -> None:
    """Makes the model repository, and frees the shared memory of a server that was killed."""
    (settings.triton(role) / "models").mkdir(parents=True, exist_ok=True)
    clean(settings, role)


def clean(settings: Settings, role: str) -> None:
    """Deletes the shared memory regions of the Triton called `role`, which must not run."""
    for region in _SHARED_MEMORY.glob(f"{_region(settings, role)}*"):
        region.unlink(missing_ok=True)


def probe(settings: Settings, role: str) -> str:
    """Returns one line about a ready server.

    Raises:
        Exception: It is not live, not ready, or does not answer within a second.
    """
    for question in ("ServerLive", "ServerReady"):
        require_yes(ports(settings, role)[1], f"/inference.GRPCInferenceService/{question}")
    return f"Triton {VERSION}, {len(models(settings, role))} models at start"


def _region(settings: Settings, role: str) -> str:
    return f"ciclo_{settings.digest}_{role}_"


def _site(settings: Settings) -> Path:
    return home(settings) / "venv" / "lib" / "python3.11" / "site-packages"
