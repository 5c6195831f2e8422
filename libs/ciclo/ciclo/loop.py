"""The schema of loop.yaml: all that a model owner declares about a loop.

What one field says of another is checked with the later one, not with the whole: so it is told
together with all other problems.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, ValidationInfo, field_validator

from ciclo.errors import Reject
from ciclo.question import Fallback as Fallback
from ciclo.question import Input, Label, Output, Part, Privacy
from ciclo.units import (
    DataType,
    Duration,
    Name,
    Share,
    SizeBytes,
    Span,
    duration_text,
    parse_duration,
)

SCHEMA = "ciclo.loop/v1"
"""Version of this schema; the first line of every loop.yaml."""

LOOP_FILE = "loop.yaml"
"""Name of the file within a loop's folder."""


class InvalidLoop(Reject):
    """loop.yaml does not say what it should; the message lists every problem."""

    reason = "INVALID_LOOP"


class Quality(Part):
    """How good an answer is, and within which block of time rows are not independent."""

    metric: Literal["log_loss"] = "log_loss"
    correlated_within: Span


class FalseAlarms(Part):
    """The budget: at most so many false alarms in so much event time."""

    at_most: Annotated[int, Field(ge=1)] = 1
    per: Span

    def __str__(self) -> str:
        """Returns the budget in words, such as `1 per 365d`."""
        return f"{self.at_most} per {duration_text(self.per)}"


class DegradedMetric(Part):
    """How much worse than its reference a metric must be to count as degraded."""

    above_reference_by: Annotated[float, Field(ge=0)]


class DegradedIf(Part):
    """What counts as degraded."""

    log_loss: DegradedMetric


class Monitor(Part):
    """What is watched, and how often it may be wrong."""

    false_alarms: FalseAlarms
    judge_only_if_captured: Share = 0.99
    slices: tuple[str, ...] = ()
    degraded_if: DegradedIf


class When(Part):
    """Reasons to retrain; any of them suffices."""

    any: tuple[Literal["drift", "degraded", "manual"], ...] = ("degraded", "manual")


class Window(Part):
    """Which rows a version learns from."""

    last: Span
    holdout: Span

    @field_validator("holdout")
    @classmethod
    def _leaves_some(cls, holdout: timedelta, info: ValidationInfo) -> timedelta:
        if holdout >= (last := info.data.get("last", timedelta.max)):
            raise ValueError(
                f"retrain.data.holdout ({duration_text(holdout)}) must be shorter than "
                f"retrain.data.last ({duration_text(last)}): nothing would be left to train on"
            )
        return holdout


class Limits(Part):
    """How often, how long and how large a run may be."""

    cooldown: Duration = timedelta(days=7)
    runs: Annotated[str, Field(pattern=r"^\d+ per \d+[smhdw]$")] = "4 per 30d"
    time: Duration = timedelta(minutes=5)
    memory: SizeBytes = 2 * 2**30

    @property
    def most_runs(self) -> int:
        """How many runs `per_time` allows."""
        return int(self.runs.split(" per ")[0])

    @property
    def per_time(self) -> timedelta:
        """The event time that `most_runs` is spread over."""
        return parse_duration(self.runs.split(" per ")[1])


class Retrain(Part):
    """When, on what and within which limits to retrain."""

    when: When = When()
    data: Window
    limits: Limits = Limits()


class NonInferior(Part):
    """The version is not worse than the champion by more than the margin, at this confidence."""

    rule: Literal["non_inferior"]
    metric: Literal["log_loss"] = "log_loss"
    margin: Annotated[float, Field(ge=0)]
    confidence: Share = 0.95
    by: str | None = None
    min_labels: int = 0


class Calibrated(Part):
    """The version's probabilities are right on average within each bin."""

    rule: Literal["calibrated"]
    error_at_most: Share


class Latency(Part):
    """The version is not slower than so many times the champion, at the 95th percentile."""

    rule: Literal["latency"]
    p95_at_most: Annotated[float, Field(gt=0)]


Gate = Annotated[NonInferior | Calibrated | Latency, Field(discriminator="rule")]
"""A named rule over a version's evidence."""


class Shadow(Part):
    """How long the challenger is only asked captured requests.

    `margin` is the smallest gain that counts as better, and the largest loss that counts as not
    worse.
    """

    until: Literal["better", "not_worse"] = "better"
    confidence: Share = 0.95
    margin: Annotated[float, Field(ge=0)] = 0.0
    at_most: Duration


class Canary(Part):
    """In which steps the challenger answers callers, and what stops it."""

    weights: tuple[Share, ...]
    each: Duration
    stop_if: Literal["worse"] = "worse"
    exposure_at_most: Annotated[int, Field(ge=1)]

    @field_validator("weights")
    @classmethod
    def _grow(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if list(weights) != sorted(weights) or any(w in (0, 1) for w in weights):
            raise ValueError("rollout.canary.weights must grow and lie between 0 and 1")
        return weights


class Bake(Part):
    """How long the old champion stays warm after the whole weight moved."""

    for_: Annotated[Duration, Field(alias="for")]
    rollback_if: Literal["worse"] = "worse"


class Rollout(Part):
    """How a challenger becomes champion."""

    shadow: Shadow
    canary: Canary
    bake: Bake


class Loop(Part):
    """A whole loop, as loop.yaml declares it."""

    schema_: Annotated[Literal["ciclo.loop/v1"], Field(alias="schema")]
    model: Name
    owner: str
    mode: Literal["observe", "propose", "act"] = "act"
    recipe: Annotated[str, Field(pattern=r"^[\w./-]+\.py:\w+$")]
    features: str
    knowledge_lag: Duration = timedelta(0)
    input: Input
    output: Output
    label: Label
    privacy: Privacy = Privacy()
    quality: Quality
    monitor: Monitor
    retrain: Retrain
    gates: tuple[Gate, ...] = ()
    rollout: Rollout
    approvals: Literal[0] = 0

    @field_validator("privacy")
    @classmethod
    def _never_stored_is_no_input(cls, privacy: Privacy, info: ValidationInfo) -> Privacy:
        inputs = info.data.get("input")
        captured = {*inputs.request, *inputs.entities} if inputs else set()
        if stored := captured & set(privacy.never_store):
            raise ValueError(
                f"privacy.never_store names inputs, which are captured: {', '.join(sorted(stored))}"
            )
        return privacy

    @property
    def entities(self) -> dict[str, DataType]:
        """Entity columns with their types; texts unless loop.yaml says otherwise."""
        declared = self.input.entities
        return (
            dict(declared) if isinstance(declared, Mapping) else dict.fromkeys(declared, "string")
        )


def parse_loop(text: str, place: str = LOOP_FILE) -> Loop:
    """Returns the loop that a text declares.

    Raises:
        InvalidLoop: Lists every problem with its place in the file.
    """
    try:
        content: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidLoop(f"{place} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise InvalidLoop(f"{place} must hold one mapping that begins with `schema: {SCHEMA}`")
    try:
        return Loop.model_validate(content)
    except ValidationError as error:
        problems = [
            f"  {'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        ]
        first = ".".join(map(str, error.errors()[0]["loc"]))
        raise InvalidLoop(
            f"{place} has {len(problems)} problem(s):\n" + "\n".join(problems), field=first
        ) from error


def read_loop(folder: Path) -> Loop:
    """Returns the loop in a folder.

    Raises:
        InvalidLoop: There is no loop.yaml, or it has problems.
    """
    path = folder / LOOP_FILE
    if not path.is_file():
        raise InvalidLoop(f"{path} does not exist; `ciclo init {folder}` writes one to start from")
    return parse_loop(path.read_text(), str(path))
