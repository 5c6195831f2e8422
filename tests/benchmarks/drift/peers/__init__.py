"""Other libraries in an environment of their own, with what they say of the streams given."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

HERE = Path(__file__).parent
LOCK = HERE.parents[1] / "peers.lock"
"""Made by `uv pip compile --python-version 3.11 --generate-hashes` from `peers.in`."""

HOME = Path("build/bench/peers")
UV = "build/tools/bin/uv"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

METHODS = {
    "River": (
        "River ADWIN",
        "River Page-Hinkley",
        "River Page-Hinkley, tolerance .25",
        "River KSWIN",
    ),
    "alibi-detect": (
        "alibi-detect CVM online",
        "alibi-detect MMD online",
        "alibi-detect LSDD online",
    ),
    "Evidently": ("Evidently KS, windows of 100", "Evidently Wasserstein, windows of 100"),
}
"""Methods of each library."""


def install() -> None:
    """Makes the environment that the lock describes, where it is not there yet."""
    stamp, wanted = HOME / "lock.sha256", hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print("other libraries into build/bench/peers", file=sys.stderr, flush=True)  # noqa: T201
    subprocess.run([UV, "venv", "--quiet", "--clear", "--python", sys.executable, HOME], check=True)
    command = [UV, "pip", "sync", "--quiet", "--require-hashes", "--python", HOME, LOCK]
    subprocess.run(command, check=True)
    stamp.write_text(wanted)


def versions() -> dict[str, str]:
    """Returns the pinned versions of the libraries."""
    pins = (
        line.split(" ")[0].split("==") for line in LOCK.read_text().splitlines() if "==" in line
    )
    return {name: pin for name, pin in pins if name in {"alibi-detect", "evidently", "river"}}


def watch(
    method: str, references: NDArray[np.float64], streams: dict[str, NDArray[np.float64]], seed: int
) -> dict[str, NDArray[np.float64]]:
    """Returns the first alarms of a method; see `script`.

    Args:
        method: One of `METHODS`.
        references: Shape (R, m), or (R, m, d).
        streams: By name, shape (R, K, rows), or (R, K, rows, d).
        seed: Seed of what the method draws.

    Raises:
        subprocess.CalledProcessError: The method failed; its own words are on stderr.
    """
    with tempfile.TemporaryDirectory(prefix="streams-", dir=HOME) as folder:
        source, target = Path(folder) / "streams.npz", Path(folder) / "alarms.npz"
        np.savez(source, references=references, seed=np.array(seed), **streams)
        command = [HOME / "bin" / "python", HERE / "script.py", method, source, target]
        subprocess.run(command, check=True, env=os.environ | ONE_THREAD)
        with np.load(target) as arrays:
            return {name: arrays[name] for name in arrays.files}
