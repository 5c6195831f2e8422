"""The offline process: reads tasks from its input until that is closed, writes answers.

Started by `offline_process.OfflineProcess` alone. What Feast or a user's features.py prints goes to
standard error: standard output carries answers.
"""

import os
import sys
import traceback
from typing import BinaryIO

from pydantic import TypeAdapter

from ciclo.errors import CicloError, Fatal
from ciclo_feature_store.adapters.offline.protocol import Failure, Request, failure_of
from ciclo_feature_store.domain.tasks import Answer, AuditTask, DefineTask, Task

# Feast imports torch where there is one, for a wrapper that nothing here calls: seconds and memory.
sys.modules["torch"] = None  # type: ignore[assignment]
from ciclo_feature_store.adapters.offline import audit, cut, definitions  # noqa: E402

del sys.modules["torch"]

_REQUEST = TypeAdapter(Request)
_ANSWER: TypeAdapter[Answer | Failure] = TypeAdapter(Answer | Failure)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers requests until there are no more."""
    for line in requests:
        answers.write(_ANSWER.dump_json(answer(_REQUEST.validate_json(line).task)) + b"\n")
        answers.flush()


def answer(task: Task) -> Answer | Failure:
    """Does a task; whatever goes wrong becomes an answer."""
    try:
        if isinstance(task, DefineTask):
            return definitions.define(task)
        return audit.audit(task) if isinstance(task, AuditTask) else cut.cut(task)
    except CicloError as error:
        return failure_of(error)
    except Exception as error:  # noqa: BLE001 -- told to the service, which answers its caller
        traceback.print_exc()
        return failure_of(Fatal(f"{task.kind}: {error!r}", reason="OFFLINE_FAILED"))


NICENESS = 10
"""Online reads and commits go first where cores are scarce."""

if __name__ == "__main__":
    os.nice(NICENESS)
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as out:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        serve(sys.stdin.buffer, out)
