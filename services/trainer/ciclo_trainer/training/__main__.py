"""`python -m ciclo_trainer.training --request request.json`: one run, started by the trainer.

Progress goes to stdout as a JSON object a line, the outcome to `result.json` in the run's folder.
Exit status: 0 when there is a bundle, 1 when there is a reason why not.
"""

from __future__ import annotations

import argparse
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
    parser.add_argument("--request", type=Path, required=True, help="request.json")
    path: Path = parser.parse_args(arguments).request
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
