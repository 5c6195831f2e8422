"""Makes Triton's own virtual environment from its lock, and the backend folder beside it."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from ciclo_local import triton_server
from ciclo_local.errors import InstallFailed
from ciclo_local.settings import DEPLOY, ROOT, Settings, replace
from ciclo_local.start import Say

LOCK = DEPLOY / "triton" / "requirements.lock"
"""Every package with its hashes. An environment of its own, because the server's Python
backend answers empty tensors, with status OK, under NumPy 2."""

_STUB = f"{sys.version_info.major}.{sys.version_info.minor}"


def is_current(settings: Settings) -> bool:
    """Whether what is installed was made from the present lock."""
    note = triton_server.home(settings) / "installed"
    return note.exists() and note.read_text() == _lock_digest()


def install(settings: Settings, say: Say) -> None:
    """Makes `stack_home/triton`. Does nothing if it was made from the present lock.

    Raises:
        InstallFailed: uv is missing, or could not fetch or verify a package.
    """
    home = triton_server.home(settings)
    if not is_current(settings):
        say(f"Triton {triton_server.VERSION}: making its environment, 390 MB")
        python = home / "venv" / "bin" / "python"
        if not python.exists():
            _uv("venv", "--quiet", "--clear", "--python", sys.executable, str(home / "venv"))
        _uv("pip", "sync", "--quiet", "--require-hashes", "--python", str(python), str(LOCK))
        _make_backends(settings)
        replace(home / "installed", _lock_digest())
    say(f"Triton {triton_server.VERSION}: installed from {LOCK.relative_to(ROOT)}")


def _make_backends(settings: Settings) -> None:
    """Puts the stub of our Python version beside the backend; the wheel keeps them apart."""
    home = triton_server.home(settings)
    wheel = home / "venv" / "lib" / f"python{_STUB}" / "site-packages" / "pytriton" / "tritonserver"
    fresh = home / "backends.new"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(wheel / "backends" / "python", fresh / "python")
    stub = wheel / "python_backend_stubs" / _STUB / "triton_python_backend_stub"
    shutil.copy2(stub, fresh / "python")
    shutil.rmtree(home / "backends", ignore_errors=True)
    fresh.rename(home / "backends")


def _uv(*arguments: str) -> None:
    local = ROOT / "build" / "tools" / "bin" / "uv"
    uv = str(local) if local.exists() else shutil.which("uv")
    if uv is None:
        raise InstallFailed(f"uv is missing; expected {local} or one on PATH. Run `make setup`.")
    done = subprocess.run([uv, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-1500:]
        raise InstallFailed(
            f"uv {arguments[0]} failed:\n{said}\nIs the network there? What was fetched is kept;"
            " `make setup` goes on from it."
        )


def _lock_digest() -> str:
    return hashlib.sha256(Path(LOCK).read_bytes()).hexdigest()
