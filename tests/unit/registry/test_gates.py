"""Gates: what passes, what does not, and what they say about it."""

from dataclasses import replace

import pytest
from tests.unit.registry.examples import evidence

from ciclo.loop import Calibrated, Gate, Latency, NonInferior
from ciclo_registry.domain.gates import (
    SAME_SIGNATURE,
    Evidence,
    Exhibit,
    GateResult,
    Interval,
    evaluate,
)

CHAMPION = Exhibit(evidence(), "sha256:sig")
MARGIN = NonInferior(rule="non_inferior", margin=0.005)
BY_ORIGIN = NonInferior(rule="non_inferior", margin=0.005, by="origin", min_labels=1000)
FAST = Latency(rule="latency", p95_at_most=1.2)


def said(gate: Gate, shown: Evidence, champion: Exhibit | None = CHAMPION) -> GateResult:
    return evaluate([gate], Exhibit(shown, "sha256:sig"), champion)[-1]


def test_a_version_may_be_worse_by_no_more_than_the_margin() -> None:
    assert said(MARGIN, evidence(high=0.005)).passed
    assert not said(MARGIN, evidence(high=0.0051)).passed


def test_a_gate_tells_the_numbers_it_saw() -> None:
    result = said(MARGIN, evidence(high=0.02))
    assert result.inputs == {"value": -0.01, "low": -0.02, "high": 0.02, "margin": 0.005}
    assert "+0.0200" in result.detail


@pytest.mark.parametrize("gate", [MARGIN, BY_ORIGIN, FAST])
def test_nothing_can_be_inferior_to_no_champion(gate: Gate) -> None:
    result = said(gate, evidence(compared=False), champion=None)
    assert (result.passed, result.detail) == (True, "no champion")


def test_evidence_without_a_comparison_does_not_pass_beside_a_champion() -> None:
    assert not said(MARGIN, evidence(compared=False)).passed


def test_evidence_at_less_confidence_than_asked_does_not_pass() -> None:
    assert not said(MARGIN, replace(evidence(), confidence=0.9)).passed


def test_a_difference_whose_end_is_unknown_does_not_pass() -> None:
    unknown = replace(evidence(), difference={"log_loss": Interval(-0.1)})
    assert not said(MARGIN, unknown).passed


def test_the_worst_slice_with_enough_labels_decides() -> None:
    shown = evidence()
    large, small = shown.slices
    bad = {"log_loss": Interval(0.1, 0.05, 0.2)}
    assert said(BY_ORIGIN, replace(shown, slices=(large, replace(small, difference=bad)))).passed
    refused = said(BY_ORIGIN, replace(shown, slices=(replace(large, difference=bad), small)))
    assert not refused.passed
    assert "EWR" in refused.detail


def test_slices_that_were_not_reported_do_not_pass() -> None:
    assert not said(BY_ORIGIN, replace(evidence(), slices=())).passed


def test_calibration_is_judged_with_and_without_a_champion() -> None:
    gate = Calibrated(rule="calibrated", error_at_most=0.03)
    for champion in (None, CHAMPION):
        assert said(gate, evidence(calibration=0.03), champion).passed
        assert not said(gate, evidence(calibration=0.031), champion).passed
    assert not said(gate, replace(evidence(), metrics={})).passed


def test_latency_is_compared_with_the_champions() -> None:
    slow = replace(evidence(), latency_p95_seconds={"version": 0.0013, "champion": 0.001})
    assert said(FAST, evidence()).passed
    assert not said(FAST, slow).passed
    assert not said(FAST, replace(evidence(), latency_p95_seconds={"version": 1.0})).passed


def test_another_signature_is_refused_where_something_serves() -> None:
    other = Exhibit(evidence(), "sha256:other")
    assert [r.rule for r in evaluate([], other, CHAMPION) if not r.passed] == [SAME_SIGNATURE]
    assert evaluate([], other, None) == ()
