"""Models, versions and judgements that the registry's tests begin with."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ciclo.loop import Loop, parse_loop
from ciclo_registry.domain.gates import Evidence, Interval, Slice
from ciclo_registry.domain.model import Model
from ciclo_registry.domain.policy import Judgement, RolloutPolicy, Stage, Verdict, policy_of
from ciclo_registry.domain.versions import Examined, Status, Version, VersionRef

NAME = "flight-delay"
WALL = datetime(2026, 1, 1, tzinfo=UTC)
DAY_0 = datetime(2013, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
STALL, LEASE = timedelta(minutes=15), timedelta(seconds=60)

LOOP_YAML = """\
schema: ciclo.loop/v1
model: flight-delay
owner: flight-ops
mode: act
recipe: recipe.py:FlightDelay
features: flight_delay
input: {id: flight, entities: [origin], request: {flight: string, distance: float32}}
output: {name: late}
label: {name: late, expected_within: 12h, never_after: 3d}
quality: {metric: log_loss, correlated_within: 1d}
monitor:
  false_alarms: {at_most: 1, per: 365d}
  degraded_if: {log_loss: {above_reference_by: 0.03}}
retrain: {data: {last: 90d, holdout: 10d}}
gates:
  - {rule: non_inferior, metric: log_loss, margin: 0.005, confidence: 0.95}
  - {rule: calibrated, error_at_most: 0.03}
rollout:
  shadow: {until: better, at_most: 35d}
  canary: {weights: [0.05, 0.25], each: 5d, exposure_at_most: 1500}
  bake: {for: 7d}
"""

FILES = {"loop.yaml": LOOP_YAML.encode(), "recipe.py": b"# recipe", "features.py": b"# features"}


def loop(**changes: Any) -> Loop:
    return parse_loop(LOOP_YAML).model_copy(update=changes)


def policy(**changes: Any) -> RolloutPolicy:
    return replace(policy_of(loop(), stall=STALL, lease=LEASE), **changes)


def day(n: float) -> datetime:
    return DAY_0 + n * DAY


def ref(number: int, signature: str = "sha256:sig") -> VersionRef:
    return VersionRef(NAME, number, f"sha256:{number:064x}", signature)


def evidence(*, compared: bool = True, high: float = 0.001, calibration: float = 0.01) -> Evidence:
    difference = {"log_loss": Interval(-0.01, -0.02, high)} if compared else {}
    return Evidence(
        confidence=0.95,
        metrics={"log_loss": Interval(0.4, 0.38, 0.42), "calibration_error": Interval(calibration)},
        champion={"log_loss": Interval(0.41, 0.39, 0.43)} if compared else {},
        difference=difference,
        slices=(Slice("origin", "EWR", 2000, difference), Slice("origin", "LGA", 10, difference)),
        latency_p95_seconds={"version": 0.001, "champion": 0.001},
    )


def examined(**changes: Any) -> Examined:
    return Examined(
        model=changes.pop("model", NAME),
        signature_digest=changes.pop("signature_digest", "sha256:sig"),
        dataset_digest="sha256:dataset",
        as_of_time=day(0),
        newest_event_time=day(-10),
        evidence=evidence(**changes),
    )


def version(number: int, status: Status = Status.GATED) -> Version:
    return Version(
        ref=ref(number),
        run_id=f"run-{number}",
        cycle_id=f"cycle-{number}",
        dataset_digest="sha256:dataset",
        as_of_time=day(0),
        newest_event_time=day(-10),
        create_time=WALL,
        evidence=evidence(),
        status=status,
    )


def model(**changes: Any) -> Model:
    return replace(Model(NAME, "sha256:loop", champion=ref(1), watermark=day(0)), **changes)


def judgement(
    stage: Stage = Stage.SHADOW,
    verdict: Verdict = Verdict.UNDECIDED,
    *,
    at: float = 1,
    rollout_id: str = "rollout-1",
    challenger: int = 2,
    exposed: int = 0,
    blocks: int = 0,
) -> Judgement:
    return Judgement(
        rollout_id=rollout_id,
        stage=stage,
        challenger=challenger,
        verdict=verdict,
        watermark=day(at),
        exposed_rows=exposed,
        blocks=blocks or max(int(at), 1),
        rows=100 * (blocks or max(int(at), 1)),
    )
