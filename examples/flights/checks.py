"""Did it really happen? Each step against the topics, the registry and Triton, not the script."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import tritonclient.grpc.aio as triton
from player import MODEL
from story import FORCED_FOR
from story_checks import Check, check_story

if TYPE_CHECKING:
    from plans import Plan
    from system import Services, System

    from ciclo.loop import Loop

TRITON_MISSES: Final = 0.005
"""Most of a version's requests that come between the last look at Triton and a load, at which it
counts anew: looks are 0.1 s apart, a version serves for tens of seconds."""

PARITY_QUESTIONS: Final = 1
"""What the gateway itself asks a version at each load; no caller gets that answer."""

FOLLOWING: Final = frozenset(
    {
        "TrainingCompleted",
        "TrainingSkipped",
        "VersionRegistered",
        "GatesEvaluated",
        "RolloutJudged",
        "RolloutCompleted",
        "RolloutRolledBack",
        "ModelPromoted",
        "EpisodeClosed",
        "VersionLoaded",
        "RoutesApplied",
    }
)
"""Events that cannot come by themselves, nor from a person: each names its cause."""

WAITED_SHARE: Final = 0.05
"""Most of the run that the player may wait for features."""


async def check_all(
    plan: Plan, loop: Loop, figures: dict[str, Any], system: System, services: Services
) -> list[dict[str, Any]]:
    """Returns every check of the story, or of the control that was played."""
    found = _traffic(figures, plan)
    if plan.control:
        found += _control(figures, plan)
    else:
        found += check_story(figures, loop)
        found.append(_forced_is_audited(await services.audit()))
        found.append(await _serves_version_2(services, system))
    found.append(_chains_are_whole(figures))
    found.append(_triton_agrees(figures))
    return [asdict(check) for check in found]


def _traffic(f: dict[str, Any], plan: Plan) -> list[Check]:
    ids, skew = f["ids"], f["skew"]
    waited = f["waited_s"] / max(f["seconds"]["play"], 1e-9)
    said = f"{f['failed']} failed of {f['rows_due']} rows due; {f['rows_answered']} answered"
    checks = [
        Check("no request failed", not f["failed"] and f["rows_due"] == f["rows_answered"], said),
        Check(
            "nothing served is lost",
            f["ids_lost"] == 0 and ids["callers"] > 0,
            f"{ids['callers']} callers' ids: {ids['kafka']} in Kafka, {ids['delta']} in Delta",
        ),
        Check(
            "training and serving see the same",
            skew["rows_different"] == 0 and skew["rows_audited"] > 0,
            f"{skew['rows_different']} of {skew['rows_audited']} audited rows differ",
        ),
        Check(
            "speed made no skew",
            waited <= WAITED_SHARE,
            f"waited {f['waited_s']:.1f} s, {waited:.1%} of the run",
        ),
    ]
    return [*checks, _labels_find_their_rows(f, is_told=plan.control != "no-labels")]


def _labels_find_their_rows(f: dict[str, Any], *, is_told: bool) -> Check:
    """Each label is at rest, and about a row that was answered or that history holds."""
    joined, of_history = f["labels_joined"], f["labels_of_history"]
    all_found = f["labels_due"] == f["labels_stored"] == joined + of_history
    said = f"{f['labels_due']} labels due, {f['labels_stored']} stored: {joined} rows answered "
    said += f"now, {of_history} before; {f['never_labelled']} rows have none"
    return Check("labels find their rows", all_found and bool(joined) == is_told, said)


def _control(f: dict[str, Any], plan: Plan) -> list[Check]:
    events = f["events"]
    by_itself = [
        e
        for e in events
        if e["type"] == "TrainingStarted" and e["message"]["trigger"] != "TRIGGER_MANUAL"
    ]
    promoted = [e for e in events if e["type"] == "ModelPromoted"]
    exposed = sum(rows for version, rows in f["rows_by_version"].items() if version != "1")
    checks = [
        Check("version 1 serves to the end", len(promoted) == 1, f"{len(promoted)} promotions"),
        Check("nobody got another version's answers", exposed == 0, f"{exposed} rows"),
    ]
    if plan.control == "equal":
        judged = [j for j in f["judgements"] if j["verdict"] == "better"]
        said = f"{len(f['judgements'])} judgements, {len(judged)} of them better"
        checks.append(
            Check("an equal one is not better", bool(f["judgements"]) and not judged, said)
        )
    else:
        said = f"{len(by_itself)} runs were started by the loop"
        checks.append(Check("nothing was retrained", not by_itself, said))
    return checks


def _forced_is_audited(audit: Any) -> Check:
    acts = [entry for entry in audit.entries if FORCED_FOR in entry.reason]
    said = f"{len(audit.entries)} entries, intact: {audit.intact}; {len(acts)} of the forcing"
    return Check("the forcing is in an intact audit chain", bool(acts) and audit.intact, said)


async def _serves_version_2(services: Services, system: System) -> Check:
    state = await services.state()
    async with triton.InferenceServerClient(system.addresses["envoy"]) as client:
        is_ready = await client.is_model_ready(MODEL, "2")
    weights = {w.version: w.weight for w in state.weights if w.weight}
    passed = state.champion.version == 2 and weights == {2: 1.0} and is_ready
    return Check("version 2 serves at the end", passed, f"weights {weights}, ready: {is_ready}")


def _chains_are_whole(f: dict[str, Any]) -> Check:
    """Whatever follows from something names it, and it was recorded before."""
    when = {event["id"]: event["wall_time"] for event in f["events"]}
    named = [e for e in f["events"] if e["cause"]]
    lost = [e for e in named if when.get(e["cause"], "~") > e["wall_time"]]
    silent = [e for e in f["events"] if e["type"] in FOLLOWING and not e["cause"]]
    said = f"{len(f['events'])} control events, {len(named)} name a cause: {len(lost)} of these "
    said += f"are not recorded before; {len(silent)} name none and should"
    return Check("every cause is recorded", bool(named) and not lost and not silent, said)


def _triton_agrees(f: dict[str, Any]) -> Check:
    """What the topic says that each version answered is what Triton counted.

    But for what a load hides (`TRITON_MISSES`) and adds (`PARITY_QUESTIONS`).
    """
    topic, counted = f["requests_by_version"], f["triton_requests"]
    loads = sum(
        e["type"] == "VersionLoaded" and e["message"]["placement"] == "SERVING" for e in f["events"]
    )
    agree = [
        -loads * (1 + TRITON_MISSES * n) <= counted.get(v, 0) - n <= loads * PARITY_QUESTIONS
        for v, n in topic.items()
    ]
    said = f"requests by version: {topic} in the topic, {counted} counted by Triton, {loads} loads"
    return Check("Triton's own statistics agree", bool(agree) and all(agree), said)
