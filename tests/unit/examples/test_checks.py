"""A story in which all happened passes; with one thing otherwise, the check of it fails."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
from checks import _chains_are_whole, _traffic, _triton_agrees
from plans import CONTROLS
from story_checks import check_story

from ciclo.loop import read_loop

PLAN = CONTROLS[""]
LOOP = read_loop(Path(__file__).parents[3] / "examples" / "flights" / "loop")


def event(number, kind, cause="", cycle="x", day="2013-06-20", **message):
    return {"id": number, "type": kind, "cause": cause, "cycle": cycle, "message": message,
            "event_time": f"{day}T12:00:00+00:00", "wall_time": f"2026-01-01T00:{int(number):02}",
            "told": kind}  # fmt: skip


def version(number):
    return {"model": "m", "version": number}


def weights(**shares):
    # As protobuf prints it: a weight of 0 is left out.
    return [
        {"version": int(name[1:]), **({"weight": share} if share else {})}
        for name, share in shares.items()
    ]


def back(number, cause, cycle, rollout, stage):
    return event(number, "RolloutRolledBack", cause, cycle, rollout_id=rollout, reason="WORSE",
                 from_stage=f"STAGE_{stage}", challenger=version(3))  # fmt: skip


def advanced(number, cause, day, **shares):
    return event(
        number, "RolloutAdvanced", cause, "x", day, rollout_id="r2", weights=weights(**shares)
    )


def routed(number, **shares):
    return event(number, "RoutesApplied", "00", weights=weights(**shares))


def loaded(number):
    return event(number, "VersionLoaded", "00", placement="SERVING")


@pytest.fixture
def figures():
    events = [
        event("00", "LoopApplied"), loaded("01"), loaded("02"), loaded("03"), routed("04", v1=1.0),
        event("10", "DriftDetected", day="2013-06-08", version=version(1)),
        event("11", "PerformanceDegraded", "10", version=version(1)),
        event("12", "TrainingStarted", "10", trigger="TRIGGER_DEGRADED"),
        event("13", "VersionRegistered", "12"),
        event("14", "RolloutStarted", "13", rollout_id="r2"),
        event("15", "RolloutJudged", "14", verdict="VERDICT_BETTER"),
        advanced("16", "15", "2013-07-12", v1=0.95, v2=0.05), routed("17", v1=0.95, v2=0.05),
        advanced("18", "15", "2013-07-16", v1=0.75, v2=0.25), routed("19", v1=0.75, v2=0.25),
        advanced("20", "15", "2013-07-20", v2=1.0, v1=0.0), routed("21", v2=1.0, v1=0.0),
        event("22", "RolloutJudged", "14", verdict="VERDICT_NOT_WORSE"),
        event("23", "RolloutCompleted", "22", rollout_id="r2", version=version(2)),
        event("30", "TrainingStarted", "", "y", trigger="TRIGGER_MANUAL"),
        event("31", "VersionRegistered", "30", "y"),
        event("32", "RolloutStarted", "31", "y", rollout_id="r3"),
        event("33", "RolloutJudged", "32", "y", verdict="VERDICT_WORSE"),
        back("34", "33", "y", "r3", "SHADOW"),
        event("40", "RolloutStarted", "", "y", rollout_id="r4"),
        event("41", "RolloutJudged", "40", "y", verdict="VERDICT_WORSE"),
        back("42", "41", "y", "r4", "CANARY"),
    ]  # fmt: skip
    return {
        "events": events,
        "versions": [{"version": 3, "metrics": {"log_loss": 0.43, "champion:log_loss": 0.5}}],
        "rollouts": [
            {"rollout_id": name, "rows_by_bad": n}
            for name, n in (("r2", 0), ("r3", 0), ("r4", 799))
        ],
        "triton_ready": [
            {"wall_time": f"2026-01-01T00:{n:02}.5", "versions": [1, 2]} for n in range(18, 24)
        ],
        "requests_by_version": {"1": 3000, "2": 40}, "triton_requests": {"1": 2980, "2": 41},
        "ids": {"callers": 9, "kafka": 9, "delta": 9}, "ids_lost": 0,
        "rows_due": 80, "rows_answered": 80, "failed": 0,
        "seconds": {"play": 90.0}, "waited_s": 1.0,
        "skew": {"rows_audited": 80, "rows_different": 0},
        "labels_due": 77, "labels_stored": 77, "labels_joined": 70, "labels_of_history": 7,
        "never_labelled": 10,
    }  # fmt: skip


def failing(figures, plan=PLAN):
    checks = [
        *_traffic(figures, plan),
        *check_story(figures, LOOP),
        _chains_are_whole(figures),
        _triton_agrees(figures),
    ]
    return {check.name for check in checks if not check.passed}


def test_a_story_in_which_all_happened_passes(figures):
    assert failing(figures) == set()


def told(figures, number):
    return next(e for e in figures["events"] if e["id"] == number)


def says(number, **message):
    return lambda f: told(f, number)["message"].update(message)


def is_caused(number, cause):
    return lambda f: told(f, number).update(cause=cause)


def said(**given):
    return lambda f: f.update(given)


def without(*numbers):
    return lambda f: f.update(events=[e for e in f["events"] if e["id"] not in numbers])


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (said(failed=1), "no request failed"),
        (said(ids_lost=1), "nothing served is lost"),
        (said(skew={"rows_audited": 80, "rows_different": 1}), "training and serving see the same"),
        (said(waited_s=5.0), "speed made no skew"),
        (said(labels_stored=76), "labels find their rows"),
        (said(labels_of_history=6), "labels find their rows"),
        (said(labels_due=0, labels_stored=0, labels_joined=0, labels_of_history=0),
         "labels find their rows"),
        (says("11", version=version(2)), "degradation was noticed"),
        (lambda f: told(f, "11").update(event_time="2013-07-01"), "degradation was noticed"),
        (says("10", version=version(2)), "what moved was told, of the version that degraded"),
        (lambda f: told(f, "10").update(cycle="z"),
         "what moved was told, of the version that degraded"),
        (is_caused("12", "04"), "the loop retrained by itself, because of that"),
        (lambda f: told(f, "31").update(cycle="x"), "one version for each cycle"),
        (says("15", verdict="VERDICT_NOT_WORSE"), "the shadow was won"),
        (says("16", weights=weights(v1=0.5, v2=0.5)), "the canary went in the declared steps"),
        (says("19", weights=weights(v1=0.95, v2=0.05)), "the canary went in the declared steps"),
        (lambda f: told(f, "18").update(event_time="2013-07-15T12:00:00+00:00"),
         "the canary went in the declared steps"),
        (without("18", "19"), "the canary went in the declared steps"),
        (lambda f: f["triton_ready"][3].update(versions=[2]),
         "version 1 stayed warm during the bake"),
        (said(triton_ready=[]), "version 1 stayed warm during the bake"),
        (said(versions=[{"version": 3, "metrics": {"log_loss": 0.51, "champion:log_loss": 0.5}}]),
         "the bad challenger was better offline"),
        (said(versions=[]), "the bad challenger was better offline"),
        (lambda f: f["rollouts"][1].update(rows_by_bad=1),
         "the shadow stopped the bad challenger, which answered nobody"),
        (says("34", reason="TIMEOUT"),
         "the shadow stopped the bad challenger, which answered nobody"),
        (says("42", reason="LEASE_EXPIRED"), "the canary took it back within its limit"),
        (says("42", challenger=version(2)), "the canary took it back within its limit"),
        (lambda f: f["rollouts"][2].update(rows_by_bad=1501),
         "the canary took it back within its limit"),
        (lambda f: f["rollouts"][2].update(rows_by_bad=0),
         "the canary took it back within its limit"),
        (is_caused("14", ""), "each rollout leads back to its reason"),
        (without("42"), "each rollout leads back to its reason"),
        (is_caused("33", ""), "every cause is recorded"),
        (is_caused("33", "nowhere"), "every cause is recorded"),
        (is_caused("33", "40"), "every cause is recorded"),
        (said(triton_requests={"1": 2980, "2": 60}), "Triton's own statistics agree"),
        (said(triton_requests={"1": 2900, "2": 41}), "Triton's own statistics agree"),
        (said(triton_requests={"1": 2980}), "Triton's own statistics agree"),
    ],
)  # fmt: skip
def test_what_was_otherwise_fails_its_check(figures, spoil, check):
    spoil(figures)

    assert check in failing(figures)


def test_if_no_event_names_a_cause_no_chain_is_whole(figures):
    for found in figures["events"]:
        found["cause"] = ""

    assert {"every cause is recorded", "each rollout leads back to its reason"} <= failing(figures)


def test_of_nothing_no_step_of_the_story_is_passed(figures):
    empty = copy.deepcopy(figures) | {"events": [], "triton_requests": {}}

    assert {check.name for check in check_story(empty, LOOP) if check.passed} == set()


def test_without_labels_none_may_be_joined(figures):
    silent = replace(PLAN, control="no-labels")
    assert "labels find their rows" in failing(figures, silent)
    figures |= {"labels_due": 0, "labels_stored": 0, "labels_joined": 0, "labels_of_history": 0}
    assert "labels find their rows" not in failing(figures, silent)
