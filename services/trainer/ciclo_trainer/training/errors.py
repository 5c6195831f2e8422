"""Why a run can fail; `reason` is what result.json says and what the trainer acts on."""

from __future__ import annotations

import traceback

from ciclo.errors import Reject


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

    def __init__(self, step: str, cause: Exception) -> None:
        frames = traceback.extract_tb(cause.__traceback__)
        where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        super().__init__(
            f"recipe, {step}: {type(cause).__name__}: {cause}",
            metadata={"step": step, "cause": type(cause).__name__, "where": where},
        )
        self.step = step
        self.cause = cause


class NotFinite(TrainingFailed):
    """A number that must be finite is not: training diverged, or a loss is undefined somewhere.

    Args:
        where: The number and the moment, as `weight body.0.bias after epoch 3`.
    """

    reason = "NOT_FINITE"

    def __init__(self, where: str) -> None:
        super().__init__(f"{where}: not finite; lower the learning rate, or bound the loss")
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
