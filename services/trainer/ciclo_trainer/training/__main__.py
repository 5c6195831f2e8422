"""`python -m ciclo_trainer.training --request request.json`: one run, started by the trainer.

With `--wait` it imports what runs need, which takes seconds, and then reads the path from stdin.

The outcome goes to `result.json` in the run's folder, progress and prints to files beside it; see
`progress.py`. Exit status: 0 when there is a bundle, 1 when there is a reason why not.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from pathlib import Path

from ciclo.errors import CicloError, Reject
from ciclo_trainer.training.progress import LOG, printed_to, tell
from ciclo_trainer.training.request import (
    RESULT,
    Request,
    encode_failure,
    encode_success,
    read_request,
)


def main(arguments: list[str]) -> int:
    """Run the request named on the command line and return the exit status."""
    parser = argparse.ArgumentParser(prog="ciclo_trainer.training", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--request", type=Path, help="request.json")
    which.add_argument("--wait", type=int, metavar="THREADS", help="read its path from stdin")
    given = parser.parse_args(arguments)
    path: Path | None = given.request or _awaited(given.wait)
    if path is None:
        return 0
    out = path.parent
    try:
        request = read_request(path)
        out = request.out
        out.mkdir(parents=True, exist_ok=True)
    except CicloError as error:
        return _fail(out, error)
    with printed_to(out / LOG):
        return _run(request)


def _run(request: Request) -> int:
    out = request.out
    (out / RESULT).unlink(missing_ok=True)
    os.environ["OMP_NUM_THREADS"] = str(request.threads)  # read once, when torch is imported
    try:
        from ciclo_trainer.training.run import train

        result = train(request, lambda event: tell(out, event))
    except CicloError as error:
        return _fail(out, error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a run must leave its reason, also one we did not foresee
        return _fail(out, Reject(repr(error), reason="INTERNAL"))
    _replace(out / RESULT, encode_success(result))
    return 0


def _fail(out: Path, error: CicloError) -> int:
    """Leave the reason first: what was printed and how is up to the recipe."""
    _replace(out / RESULT, encode_failure(error))
    traceback.print_exc()
    return 1


def _awaited(threads: int) -> Path | None:
    """Warm up, then return the path that comes on stdin; None if it is closed without one."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read once, when torch is imported
    importlib.import_module("ciclo_trainer.training.run")
    importlib.import_module("torch._dynamo")  # optimisers import it, which takes longer than torch
    sys.stdout.write(f"process {os.getpid()} is warm\n")
    line = sys.stdin.readline().strip()
    return Path(line) if line else None


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_suffix(".partial")
    draft.write_bytes(content)
    draft.rename(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
