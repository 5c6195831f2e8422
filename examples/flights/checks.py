"""Did it really happen? Each step against the topics, the registry and Triton, not the script."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import tritonclient.grpc.aio as triton
from player import MODEL
from story import FORCED_FOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from story import Plan
    from system import Services, System

TRITON_MISSES: Final = 0.9
"""Least share of a version's requests that Triton must have counted, looked at twice a second."""

WAITED_SHARE: Final = 0.05
"""Most of the run that the player may wait for features."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must have happened.

    Args:
        name: What.
        passed: It did.
        detail: What was seen, in one line.
    """

    name: str
    passed: bool
    detail: str


async def check_all(
    plan: Plan, figures: dict[str, Any], system: System, services: Services
) -> list[dict[str, Any]]:
    """Returns every check of the story, or of the control that was played."""
    found = _traffic(figures, plan)
    if plan.control:
        found += _control(figures, plan)
    else:
        found += _story(figures)
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
    if plan.control != "no-labels":
        enough = f["labels_joined"] > 0.9 * f["labels_due"] > 0
        said = f"{f['labels_due']} labels: {f['labels_joined']} rows have one, "
        said += f"{f['never_labelled']} have none"
        checks.append(Check("labels find their rows", enough, said))
    return checks


def _story(f: dict[str, Any]) -> list[Check]:
    events = f["events"]
    alarm = _first(events, "PerformanceDegraded")
    drift = _first(events, "DriftDetected")
    trained = _first(events, "TrainingStarted", lambda m: m["trigger"] == "TRIGGER_DEGRADED")
    completed = _first(events, "RolloutCompleted")
    stopped, taken_back = (_rolled_back(events, stage) for stage in ("SHADOW", "CANARY"))
    shadow = _first(events, "RolloutAdvanced", lambda m: m["from_stage"] == "STAGE_SHADOW")
    by_cycle = _registered_by_cycle(events)
    return [
        _happened("degradation was noticed", alarm, within=("2013-06-15", "2013-06-25")),
        _happened("what moved was told", drift),
        Check(
            "the loop retrained by itself, because of that",
            trained is not None and _cause_of(trained) in {_id_of(alarm), _id_of(drift)} - {""},
            trained["told"] if trained else "no such run",
        ),
        Check(
            "one version for each cycle",
            bool(by_cycle) and set(by_cycle.values()) == {1},
            f"{len(by_cycle)} cycles, {sum(by_cycle.values())} versions",
        ),
        _happened("the shadow was won", shadow and _better_before(events, shadow)),
        _happened("version 2 was promoted and stayed", completed),
        Check(
            "the shadow stopped the bad challenger, which answered nobody",
            stopped is not None and not int(stopped["message"].get("exposed_rows", 0)),
            stopped["told"] if stopped else "it was not stopped",
        ),
        Check(
            "the canary took it back within its limit",
            bool(taken_back) and 0 < f["rows_by_bad"] <= 1500,
            f"{taken_back['told'] if taken_back else 'not taken back'}; "
            f"{f['rows_by_bad']} rows by the topic",
        ),
    ]


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
    ids = {event["id"] for event in f["events"]}
    lost = [e for e in f["events"] if e["cause"] and e["cause"] not in ids]
    said = f"{len(f['events'])} control events; {len(lost)} name a cause that is not recorded"
    return Check("every cause is recorded", not lost, said)


def _triton_agrees(f: dict[str, Any]) -> Check:
    """What the topic says that each version answered is what Triton counted, but for its restarts.

    Triton counts anew when a model is loaded; what came between the last look and that is missing.
    """
    topic, counted = f["requests_by_version"], f["triton_requests"]
    agree = [counted.get(v, 0) / max(n, 1) >= TRITON_MISSES for v, n in topic.items()]
    said = f"requests by version: {topic} in the topic, {counted} counted by Triton"
    return Check("Triton's own statistics agree", bool(agree) and all(agree), said)


def _first(
    events: list[dict[str, Any]], name: str, test: Callable[[Any], bool] = lambda _: True
) -> dict[str, Any] | None:
    return next((e for e in events if e["type"] == name and test(e["message"])), None)


def _cause_of(event: dict[str, Any] | None) -> str:
    return str(event["cause"]) if event else ""


def _id_of(event: dict[str, Any] | None) -> str:
    return str(event["id"]) if event else ""


def _rolled_back(events: list[dict[str, Any]], stage: str) -> dict[str, Any] | None:
    return _first(events, "RolloutRolledBack", lambda m: m["from_stage"] == f"STAGE_{stage}")


def _better_before(events: list[dict[str, Any]], advanced: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the judgement that an advance names as its cause, if it says `better`."""
    return next(
        (
            e
            for e in events
            if e["id"] == advanced["cause"] and e["message"].get("verdict") == "VERDICT_BETTER"
        ),
        None,
    )


def _registered_by_cycle(events: list[dict[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for event in events:
        if event["type"] == "VersionRegistered":
            counts[event["cycle"]] = counts.get(event["cycle"], 0) + 1
    return counts


def _happened(
    name: str, event: dict[str, Any] | None, within: tuple[str, str] | None = None
) -> Check:
    if event is None:
        return Check(name, False, "it did not happen")
    day = (event["event_time"] or "")[:10]
    passed = within is None or within[0] <= day <= within[1]
    return Check(name, passed, f"{day}: {event['told']}")
