"""The last word on a run: its outcome as tables and in a line, for the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from narrative import finite, listed

if TYPE_CHECKING:
    from collections.abc import Mapping

NONE: Final = "none"


def outcome_tables(
    figures: Mapping[str, Any],
) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Returns (title, columns, rows) of the checks, the versions and the rollouts."""
    return [
        (
            "checks",
            ("", "check", "what was seen"),
            [
                ("PASS" if check["passed"] else "FAIL", check["name"], str(check["detail"]))
                for check in listed(figures, "checks")
            ],
        ),
        (
            "versions",
            ("version", "status", "learned until", "held out"),
            [
                (
                    f"version {version['version']}",
                    _word(version["status"]),
                    str(version["newest_event_time"])[:10],
                    ", ".join(
                        f"{k} {figure(v, '.3f')}" for k, v in (version["metrics"] or {}).items()
                    ),
                )
                for version in listed(figures, "versions")
            ],
        ),
        (
            "rollouts",
            ("rollout", "stage", "verdict", "gain", "evidence", "exposed", "end"),
            [
                (
                    f"version {rollout['version']}",
                    _word(rollout["stage"]),
                    _word(rollout["verdict"]),
                    _interval(rollout),
                    f"{rollout['days']} days, {rollout['rows']} rows",
                    f"{rollout['exposed_rows']} rows exposed",
                    _word(rollout["end_reason"]),
                )
                for rollout in listed(figures, "rollouts")
            ],
        ),
    ]


def in_a_line(figures: Mapping[str, Any]) -> str:
    """Returns the key figures."""
    ids, skew = (figures.get(name) or {} for name in ("ids", "skew"))
    named = {
        "rows answered": figures.get("rows_answered"),
        "failed": figures.get("failed"),
        "of callers' ids lost": figures.get("ids_lost"),
        "callers' ids": ids.get("callers"),
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


def _interval(rollout: Mapping[str, Any]) -> str:
    gain, low, high = (
        figure(rollout[name], "+.4f") for name in ("mean_gain", "gain_low", "gain_high")
    )
    return f"{gain} [{low}, {high}]"


def _word(text: object) -> str:
    return str(text or "").lower().replace("_", " ")
