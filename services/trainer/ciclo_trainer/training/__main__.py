"""`python -m ciclo_trainer.training --request request.json`: one run, started by the trainer.

With `--wait` it imports what runs need, which takes seconds, and then reads the path from stdin.

Progress goes to stdout as a JSON object a line, the outcome to `result.json` in the run's folder.
Exit status: 0 when there is a bundle, 1 when there is a reason why not.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from ciclo.errors import CicloError, Reject
from ciclo_trainer.training.request import encode_failure, encode_success, read_request

if TYPE_CHECKING:
    from collections.abc import Mapping


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
        (out / "result.json").unlink(missing_ok=True)
        os.environ["OMP_NUM_THREADS"] = str(request.threads)  # read once, when torch is imported
        from ciclo_trainer.training.run import train

        outcome, status = encode_success(train(request, report)), 0
    except CicloError as error:
        outcome, status = encode_failure(error), 1
        traceback.print_exc()
    except Exception as error:  # noqa: BLE001 - a run must leave its reason, also one we did not foresee
        outcome, status = encode_failure(Reject(repr(error), reason="INTERNAL")), 1
        traceback.print_exc()
    _replace(out / "result.json", outcome)
    return status


def _awaited(threads: int) -> Path | None:
    """Warm up, then return the path that comes on stdin; None if it is closed without one."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read once, when torch is imported
    importlib.import_module("ciclo_trainer.training.run")
    importlib.import_module("torch._dynamo")  # optimisers import it, which takes longer than torch
    line = sys.stdin.readline().strip()
    return Path(line) if line else None


def report(event: Mapping[str, object]) -> None:
    """Write a line of progress."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_suffix(".partial")
    draft.write_bytes(content)
    draft.rename(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
