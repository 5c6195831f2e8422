"""The last word on a run: its outcome as tables and in a line, for the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from narrative import finite, listed

if TYPE_CHECKING:
    from collections.abc import Mapping

NONE: Final = "none"


class OutcomeTable(NamedTuple):
    """One part of the outcome; every row is as long as the columns."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def outcome_tables(figures: Mapping[str, Any]) -> list[OutcomeTable]:
    """Returns the checks, the versions and the rollouts."""
    return [
        OutcomeTable(
            "checks",
            ("", "check", "what was seen"),
            [
                ("PASS" if check["passed"] else "FAIL", str(check["name"]), str(check["detail"]))
                for check in listed(figures, "checks")
            ],
        ),
        OutcomeTable(
            "versions",
            ("version", "status", "learned until", "held out"),
            [_version(version) for version in listed(figures, "versions")],
        ),
        OutcomeTable(
            "rollouts",
            ("rollout", "stage", "verdict", "gain", "evidence", "exposed", "end"),
            [_rollout(rollout) for rollout in listed(figures, "rollouts")],
        ),
    ]


def in_a_line(figures: Mapping[str, Any]) -> str:
    """Returns the key figures."""
    ids, skew = (figures.get(name) or {} for name in ("ids", "skew"))
    named = {
        "rows answered": figures.get("rows_answered"),
        "failed": figures.get("failed"),
        "callers' ids": ids.get("callers"),
        "of them lost": figures.get("ids_lost"),
        "labels joined": figures.get("labels_joined"),
        "audited rows differ": skew.get("rows_different"),
        "rows by the bad challenger": figures.get("rows_by_bad"),
    }
    days = finite(figures.get("speedup")) / 86_400
    total = (figures.get("seconds") or {}).get("total")
    told = [f"{figure(value, ',.0f')} {name}" for name, value in named.items()]
    return (
        f"{'; '.join(told)}; {figure(days, '.2f')} days/s, "
        f"waited {figure(figures.get('waited_s'), '.1f')} s, {figure(total, '.0f')} s in all"
    )


def figure(value: object, spec: str) -> str:
    """Returns a number as `spec` says; `none` for what is none or not finite."""
    number = finite(value)
    return NONE if number != number else format(number, spec)  # NaN


def _version(version: Mapping[str, Any]) -> tuple[str, ...]:
    metrics = (version["metrics"] or {}).items()
    return (
        f"version {version['version']}",
        _word(version["status"]),
        str(version["newest_event_time"])[:10],
        ", ".join(f"{name} {figure(value, '.3f')}" for name, value in metrics),
    )


def _rollout(rollout: Mapping[str, Any]) -> tuple[str, ...]:
    gain, limited, low, high = (
        figure(rollout[name], "+.4f")
        for name in ("mean_gain", "limited_gain", "gain_low", "gain_high")
    )
    return (
        f"version {rollout['version']}",
        _word(rollout["stage"]),
        _word(rollout["verdict"]),
        f"{gain} a row, by day {limited} [{low}, {high}]",
        f"{rollout['days']} days, {rollout['rows']} rows",
        f"{rollout['exposed_rows']} rows exposed",
        _word(rollout["end_reason"]),
    )


def _word(text: object) -> str:
    return str(text or "").lower().replace("_", " ")
