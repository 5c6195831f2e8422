"""Why a run can fail; `reason` is what result.json says and what the trainer acts on."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

from ciclo.errors import Reject

BOUND_OUTPUT = "make `output` of the recipe finite for every row, also an odd one"
"""What to do about an answer that is not finite though every weight is."""


class TrainingFailed(Reject):
    """Root of these errors. The same request fails again."""

    reason = "TRAINING_FAILED"


class BadRequest(TrainingFailed):
    """The request asks for something that cannot be.

    Args:
        field: The part of the request at fault.
        problem: What was found, and what was expected.
    """

    reason = "BAD_REQUEST"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"request, {field}: {problem}", field=field)


class DatasetUnfit(TrainingFailed):
    """The dataset is not what the inputs say, or too small.

    Args:
        column: The column at fault, or `rows`.
        problem: What was found, and what was expected.
    """

    reason = "DATASET_UNFIT"

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(f"dataset, {column}: {problem}", metadata={"column": column})


class RecipeFailed(TrainingFailed):
    """The user's recipe raised, or gave something else than its interface says.

    Args:
        step: `load`, `transform`, `build`, `fit`, `loss`, `output` or `export`.
        cause: What was raised.
    """

    reason = "RECIPE_FAILED"

    def __init__(self, step: str, cause: BaseException) -> None:
        frame = _own_frame(cause)
        where = f"{frame.filename}:{frame.lineno}" if frame else ""
        line = f", at {Path(frame.filename).name}:{frame.lineno}" if frame else ""
        super().__init__(
            f"recipe, {step}: {_in_words(cause)}{line}",
            metadata={"step": step, "cause": type(cause).__name__, "where": where},
        )
        self.step = step
        self.cause = cause


class NotFinite(TrainingFailed):
    """A number that must be finite is not: training diverged, or a loss is undefined somewhere.

    Args:
        where: The number and the moment, as `weight body.0.bias after epoch 3`.
        remedy: What to do.
    """

    reason = "NOT_FINITE"

    def __init__(
        self, where: str, remedy: str = "lower the learning rate, or bound the loss"
    ) -> None:
        super().__init__(f"{where}: not finite; {remedy}")
        self.where = where


class ParityFailed(TrainingFailed):
    """The exported graph does not answer as the network does.

    Args:
        output: The output at fault.
        problem: Row, both answers, and the tolerance.
    """

    reason = "PARITY_FAILED"

    def __init__(self, output: str, problem: str) -> None:
        super().__init__(f"parity, {output}: {problem}", metadata={"output": output})


def _own_frame(cause: BaseException) -> traceback.FrameSummary | None:
    """Return the innermost line of the user's own; None if what went wrong is no line of theirs."""
    frames = reversed(traceback.extract_tb(cause.__traceback__))
    return next((f for f in frames if not f.filename.startswith(_NOT_OWN)), None)


def _in_words(cause: BaseException) -> str:
    if isinstance(cause, SystemExit):
        return f"it called sys.exit({cause.code!r}), which ends no run; expected it to return"
    return f"{type(cause).__name__}: {cause}"


_NOT_OWN = (
    "<",
    str(Path(__file__).parent),
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
)
"""How the files begin that are not the user's: generated code, this package, Python, libraries."""
