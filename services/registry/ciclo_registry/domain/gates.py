"""Gates: named rules over a version's evidence, each with a verdict and the numbers it saw."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ciclo.loop import Calibrated, Gate, Latency, NonInferior

SAME_SIGNATURE = "same_signature"
"""A gate that no loop.yaml need name: rollouts compare answers to the same question."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A metric on held-out rows with its confidence interval.

    Attributes:
        value: The metric; None: undefined on these rows.
        low: Lower end; None: too few blocks to tell.
        high: Upper end; None: too few blocks to tell.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """Returns it for people, such as `+0.0012 [-0.0030, +0.0041]`."""
        parts = [f"{part:+.4f}" if part is not None else "?" for part in self._parts()]
        return f"{parts[0]} [{parts[1]}, {parts[2]}]"

    def numbers(self, prefix: str = "") -> dict[str, float]:
        """Returns the parts that are known, by name."""
        named = zip(("value", "low", "high"), self._parts(), strict=True)
        return {f"{prefix}{name}": part for name, part in named if part is not None}

    def _parts(self) -> tuple[float | None, float | None, float | None]:
        return (self.value, self.low, self.high)


@dataclass(frozen=True, slots=True)
class Slice:
    """The rows of one value of one column.

    Attributes:
        column: Such as `origin`.
        value: Such as `EWR`.
        rows: Labelled rows in it.
        difference: Version less champion, by metric; empty: there was no champion.
    """

    column: str
    value: str
    rows: int
    difference: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a bundle's `evidence/` folder says.

    Attributes:
        confidence: Of all intervals. In (0, 1).
        metrics: Of the version, by name.
        champion: Of the champion of that time, by name; empty: there was none.
        difference: Version less champion, by name; empty: there was none.
        slices: The same for parts of the rows.
        latency_p95_seconds: Of `version` and `champion`, measured in turns on one machine, for
            requests of one row; empty: not measured.
        limitation: Why there is no difference, where there was a champion.
    """

    confidence: float
    metrics: Mapping[str, Interval]
    champion: Mapping[str, Interval] = field(default_factory=dict)
    difference: Mapping[str, Interval] = field(default_factory=dict)
    slices: tuple[Slice, ...] = ()
    latency_p95_seconds: Mapping[str, float] = field(default_factory=dict)
    limitation: str = ""


@dataclass(frozen=True, slots=True)
class GateResult:
    """What one gate said.

    Attributes:
        rule: The rule, as written in loop.yaml.
        passed: Whether the version may go on.
        detail: What was seen and what was asked for, for people.
        inputs: What was seen, by name.
    """

    rule: str
    passed: bool
    detail: str
    inputs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Exhibit:
    """Evidence as it is brought before the gates.

    Attributes:
        evidence: The bundle's own.
        signature_digest: What the version takes and gives.
    """

    evidence: Evidence
    signature_digest: str


def evaluate(
    gates: Sequence[Gate], version: Exhibit, champion: Exhibit | None
) -> tuple[GateResult, ...]:
    """Returns what each gate says of a version, the signature's own first.

    Args:
        gates: As loop.yaml declares them.
        version: The version that wants to serve.
        champion: The one that serves; None: none does, and nothing can be inferior to it.
    """
    judge: Mapping[type, Callable[..., GateResult]] = {
        NonInferior: _non_inferior,
        Calibrated: _calibrated,
        Latency: _latency,
    }
    first = (_same_signature(version, champion),) if champion else ()
    return (*first, *(judge[type(gate)](gate, version, champion) for gate in gates))


def rule_text(gate: Gate) -> str:
    """Returns a gate in one line, close to what loop.yaml says.

    Example:
        >>> rule_text(Calibrated(rule="calibrated", error_at_most=0.03))
        'calibrated error_at_most=0.03'
    """
    settings = gate.model_dump(exclude={"rule"}, exclude_none=True)
    return " ".join([gate.rule, *(f"{name}={value}" for name, value in settings.items())])


def _same_signature(version: Exhibit, champion: Exhibit) -> GateResult:
    passed = version.signature_digest == champion.signature_digest
    detail = (
        "asks the champion's question"
        if passed
        else f"signature {version.signature_digest}, the champion's is "
        f"{champion.signature_digest}: a rollout compares answers to the same question; "
        "serve it as a model of another name"
    )
    return GateResult(SAME_SIGNATURE, passed, detail)


def _non_inferior(gate: NonInferior, version: Exhibit, champion: Exhibit | None) -> GateResult:
    rule, evidence = rule_text(gate), version.evidence
    if champion is None:
        return GateResult(rule, True, "no champion")
    if not evidence.difference:
        why = evidence.limitation or "train it against one"
        return GateResult(rule, False, f"the evidence has no comparison with a champion: {why}")
    if evidence.confidence < gate.confidence:
        return GateResult(
            rule,
            False,
            f"the evidence is at confidence {evidence.confidence:g}, {gate.confidence:g} is asked",
            {"confidence": evidence.confidence},
        )
    if gate.by is not None:
        return _non_inferior_by_slice(gate, gate.by, evidence)
    found = evidence.difference.get(gate.metric)
    if found is None:
        return GateResult(rule, False, f"the evidence has no difference of {gate.metric}")
    return GateResult(
        rule,
        _is_within(found, gate.margin),
        f"{gate.metric} differs by {found}, at most {gate.margin:+g} is asked",
        {**found.numbers(), "margin": gate.margin},
    )


def _non_inferior_by_slice(gate: NonInferior, column: str, evidence: Evidence) -> GateResult:
    rule = rule_text(gate)
    mine = [part for part in evidence.slices if part.column == column]
    if not mine:
        return GateResult(rule, False, f"the evidence has no slices by {column}: declare them")
    large = {
        part.value: part.difference[gate.metric]
        for part in mine
        if part.rows >= gate.min_labels and gate.metric in part.difference
    }
    if not large:
        return GateResult(rule, True, f"no slice by {column} has {gate.min_labels} labels")
    worst = max(large, key=lambda value: _high(large[value]))
    inputs = {
        f"{value}.high": found.high for value, found in large.items() if found.high is not None
    }
    return GateResult(
        rule,
        _is_within(large[worst], gate.margin),
        f"of {len(large)} slices with {gate.min_labels} labels or more the worst is {worst}: "
        f"{gate.metric} differs by {large[worst]}, at most {gate.margin:+g} is asked",
        {**inputs, "margin": gate.margin},
    )


def _is_within(difference: Interval, margin: float) -> bool:
    return _high(difference) <= margin


def _high(difference: Interval) -> float:
    """Returns the upper end; what cannot be told is no evidence of being good enough."""
    return math.inf if difference.high is None else difference.high


def _calibrated(gate: Calibrated, version: Exhibit, _: Exhibit | None) -> GateResult:
    rule = rule_text(gate)
    found = version.evidence.metrics.get("calibration_error")
    if found is None or found.value is None:
        return GateResult(rule, False, "the evidence has no calibration_error")
    return GateResult(
        rule,
        found.value <= gate.error_at_most,
        f"calibration error {found.value:.4f}, at most {gate.error_at_most:g} is asked",
        {"calibration_error": found.value, "at_most": gate.error_at_most},
    )


def _latency(gate: Latency, version: Exhibit, champion: Exhibit | None) -> GateResult:
    rule = rule_text(gate)
    if champion is None:
        return GateResult(rule, True, "no champion")
    measured = version.evidence.latency_p95_seconds
    mine, theirs = measured.get("version"), measured.get("champion")
    if not mine or not theirs:
        return GateResult(rule, False, "the evidence has no latency measured against a champion's")
    return GateResult(
        rule,
        mine <= gate.p95_at_most * theirs,
        f"p95 {mine * 1000:.3g} ms is {mine / theirs:.2f} times the champion's, "
        f"at most {gate.p95_at_most:g} times is asked",
        {"p95_seconds": mine, "champion_p95_seconds": theirs, "at_most": gate.p95_at_most},
    )
