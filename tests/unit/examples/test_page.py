import json
import math
import random
import re
from datetime import UTC, datetime, timedelta

import pytest
from narrative import cycles, headline, moments
from page import write_page
from plots import KINDS, draw_plots

START = datetime(2013, 5, 15, 8, tzinfo=UTC)
END = datetime(2013, 8, 9, 8, tzinfo=UTC)
NUMBERS = {
    "loss_by_day": ["loss"],
    "evidence": ["performance", "threshold"],
    "judgements": ["limited_gain", "gain_low", "gain_high"],
    "drift_by_feature": ["share", "size"],
}
BOOTSTRAP, EPISODE, MANUAL = "c-bootstrap", "c-episode", "c-manual"


def midnight(month, day):
    return datetime(2013, month, day, tzinfo=UTC)


def at(month, day, hour=12):
    return datetime(2013, month, day, hour, tzinfo=UTC).isoformat()


def days(first, last):
    return [first + timedelta(n) for n in range((last - first).days)]


def losses():
    dice = random.Random(7)
    base = {
        day: 0.40 + 0.12 * dice.random() + (0.16 if day >= midnight(6, 13) else 0)
        for day in days(START.replace(hour=0), END.replace(hour=0) - timedelta(1))
    }
    spans = [
        (1, True, midnight(5, 15), midnight(7, 20), lambda: 0.0),
        (2, False, midnight(6, 20), midnight(7, 12), lambda: -0.04),
        (2, True, midnight(7, 12), END, lambda: -0.04),
        (3, False, midnight(7, 25), midnight(7, 31), lambda: 0.1 + 0.6 * dice.random()),
        (3, True, midnight(8, 1), midnight(8, 7), lambda: 0.1 + 0.6 * dice.random()),
    ]
    return [
        {"day": f"{day:%Y-%m-%d}", "version": version, "served": served, "rows": 900,
         "loss": loss + shift() + 0.04 * dice.random(), "expected_loss": 0.42}
        for version, served, first, last, shift in spans
        for day, loss in base.items()
        if first <= day < last
    ]  # fmt: skip


def evidence():
    rows = []
    for n, day in enumerate(days(START, END)):
        served = 1 if day < midnight(7, 20) else 2
        grown = math.exp(max(0, n - 29) * 0.8) if served == 1 else 1.0 + (n % 5)
        rows.append(
            {"event_time": day.isoformat(), "performance": 0.0 if n < 2 else min(0.4 + grown, 4e3),
             "threshold": 120.0, "drift": 0.1 * n, "drift_threshold": 100.0, "version": served}
        )  # fmt: skip
    return rows


def judgements():
    spans = [
        ("r2", "shadow", 2, midnight(6, 21), 21, 0.041, "better"),
        ("r2", "canary", 2, midnight(7, 13), 7, 0.036, "not worse"),
        ("r2", "baking", 2, midnight(7, 21), 3, 0.038, "not worse"),
        ("r3", "shadow", 3, midnight(7, 25), 6, -0.43, "worse"),
        ("r4", "canary", 3, midnight(8, 1), 6, -0.38, "worse"),
    ]
    rows = []
    for rollout, stage, version, first, count, gain, verdict in spans:
        for n in range(1, count + 1):
            half = abs(gain) * (1.0 + 2.5 / n) if n < count else 0.9 * abs(gain)
            seen = gain * (1 + 0.3 * math.sin(n))
            rows.append(
                {"event_time": (first + timedelta(n)).isoformat(), "rollout_id": rollout,
                 "stage": stage, "version": version, "days": n,
                 "mean_gain": 1.2 * seen, "limited_gain": seen,
                 "gain_low": seen - half if n > 1 else -math.inf, "gain_high": seen + half,
                 "verdict": verdict if n == count else "undecided"}
            )  # fmt: skip
    return rows


def events():
    judged = [
        ("RolloutJudged", j["event_time"], EPISODE if j["rollout_id"] == "r2" else MANUAL,
         f"{j['stage']}: version {j['version']} is {j['verdict']}, gain {j['mean_gain']:+.4f}")
        for j in judgements()
    ]  # fmt: skip
    said = [
        ("LoopApplied", None, "c-apply", "3f9a8d7b6c5e by flight-ops"),
        ("TrainingStarted", at(4, 8, 0), BOOTSTRAP, "manual by flight-ops"),
        ("TrainingCompleted", at(4, 8, 0), BOOTSTRAP, "84001 rows until 2013-04-07: loss 0.4108"),
        ("VersionRegistered", None, BOOTSTRAP, "version 1"),
        ("GatesEvaluated", None, BOOTSTRAP, "version 1 passed: calibrated: passed (0.031)"),
        ("ModelPromoted", None, BOOTSTRAP, "version 1"),
        ("DriftDetected", at(6, 7), EPISODE,
         "since 2013-05-29: precip up 0.84, humid up 0.62 (reported only: quarter of a year)"),
        ("PerformanceDegraded", at(6, 19), EPISODE,
         "log_loss 0.411 → 0.583 since 2013-06-13, up 0.161 [0.084, 0.240], evidence 342 over 120"),
        ("TrainingStarted", at(6, 19), EPISODE, "degraded"),
        ("TrainingCompleted", at(6, 19), EPISODE,
         "108600 rows until 2013-06-19: log loss 0.5531 against champion's 0.5755"),
        ("VersionRegistered", None, EPISODE, "version 2"),
        ("GatesEvaluated", None, EPISODE, "version 2 passed: " + "non_inferior: passed; " * 12),
        ("RolloutStarted", at(6, 20), EPISODE, "version 2 in shadow"),
        *(e for e in judged if e[2] == EPISODE and "shadow" in e[3]),
        ("RolloutAdvanced", at(7, 12), EPISODE, "shadow → canary (1: 95%, 2: 5%)"),
        ("RolloutAdvanced", at(7, 16), EPISODE, "canary → canary (1: 75%, 2: 25%)"),
        *(e for e in judged if e[2] == EPISODE and "canary" in e[3]),
        ("RolloutAdvanced", at(7, 20), EPISODE, "canary → baking (2: 100%)"),
        ("ModelPromoted", at(7, 20), EPISODE, "version 2"),
        *(e for e in judged if e[2] == EPISODE and "baking" in e[3]),
        ("RolloutCompleted", at(7, 24), EPISODE, "version 2 stays"),
        ("EpisodeClosed", at(7, 24), EPISODE, "CHAMPION_CHANGED"),
        ("TrainingStarted", at(7, 24), MANUAL, "manual by intern"),
        ("TrainingCompleted", at(7, 24), MANUAL, "112300 rows until 2013-07-24: log loss 0.4312"),
        ("VersionRegistered", None, MANUAL, "version 3"),
        ("GatesEvaluated", None, MANUAL, "version 3 passed: non_inferior: passed (-0.07)"),
        ("RolloutStarted", at(7, 24), MANUAL, "version 3 in shadow"),
        *(e for e in judged if e[2] == MANUAL and "shadow" in e[3]),
        ("RolloutRolledBack", at(7, 31), MANUAL,
         "version 3 from shadow: WORSE, gain below 0; it answered 0 rows"),
        ("RolloutAdvanced", at(7, 31), MANUAL,
         "shadow → canary (2: 95%, 3: 5%), forced by intern: to see the canary take it back"),
        *(e for e in judged if e[2] == MANUAL and "canary" in e[3]),
        ("RolloutRolledBack", at(8, 7), MANUAL,
         "version 3 from canary: WORSE, gain below 0; it answered 881 rows"),
    ]  # fmt: skip
    return [
        {"id": f"e{n}", "type": kind, "cause": f"e{n - 1}" if n else "", "cycle": cycle,
         "source": "/ciclo/registry", "topic": "demo.ciclo.registry.v1", "partition": 0,
         "offset": n, "event_time": time, "wall_time": "2025-01-01T00:00:00+00:00", "told": told}
        for n, (kind, time, cycle, told) in enumerate(said)
    ]  # fmt: skip


def a_version(number, status, until, loss):
    return {
        "version": number,
        "bundle_digest": f"sha256:{number}b{'0' * 62}",
        "dataset_digest": f"sha256:{number}d{'0' * 62}",
        "newest_event_time": until,
        "status": status,
        "metrics": {"log_loss": loss, "champion:log_loss": loss + 0.02},
    }


def a_rollout(name, version, stage, gain, verdict, end, exposed):
    return {
        "rollout_id": name, "version": version, "days": 6, "rows": 5421, "mean_gain": gain,
        "limited_gain": gain,
        "gain_low": gain - 0.03, "gain_high": gain + 0.03, "verdict": verdict, "end_reason": end,
        "stage": stage, "exposed_rows": exposed,
    }  # fmt: skip


def a_run():
    return {
        "control": "",
        "passed": True,
        "checks": [
            {"name": "no request failed", "passed": True, "detail": "0 failed of 86897 rows due"},
            {"name": "nothing served is lost", "passed": True, "detail": "4936 ids, all at rest"},
            {"name": "degradation was noticed", "passed": True, "detail": "2013-06-19: log_loss"},
            {"name": "taken back within its limit", "passed": True, "detail": "881 < 1500 & more"},
        ],
        "speedup": 87_012.4,
        "event_start": START.isoformat(),
        "event_end": END.isoformat(),
        "waited_s": 1.26,
        "seconds": {"up": 21.4, "bootstrap": 17.9, "play": 84.6, "checks": 3.2, "total": 128.0},
        "rows_due": 86_897,
        "rows_answered": 86_897,
        "failed": 0,
        "failures": [],
        "ids": {"callers": 4936, "kafka": 4936, "delta": 4936},
        "ids_lost": 0,
        "labels_due": 84_120,
        "labels_joined": 84_120,
        "never_labelled": 2777,
        "skew": {"rows_audited": 84_120, "rows_different": 0},
        "versions": [
            a_version(1, "retired", at(4, 7), 0.4108),
            a_version(2, "champion", at(6, 19), 0.5531),
            a_version(3, "rolled_back", at(7, 24), 0.4312),
        ],
        "rollouts": [
            a_rollout("r2", 2, "completed", 0.038, "NOT_WORSE", "", 22_310),
            a_rollout("r3", 3, "rolled_back", -0.43, "WORSE", "WORSE", 0),
            a_rollout("r4", 3, "rolled_back", -0.38, "WORSE", "WORSE", 881),
        ],
        "rows_by_bad": 881,
        "loss_by_day": losses(),
        "weights": [
            {"event_time": at(7, 12), "weights": {"1": 0.95, "2": 0.05}},
            {"event_time": at(7, 16), "weights": {"1": 0.75, "2": 0.25}},
            {"event_time": at(7, 20), "weights": {"2": 1.0}},
            {"event_time": at(7, 31), "weights": {"2": 0.95, "3": 0.05}},
            {"event_time": at(8, 7), "weights": {"2": 1.0}},
        ],
        "evidence": evidence(),
        "drift_by_feature": [
            {"stream": stream, "size": size, "direction": direction, "share": share,
             "since": at(6, 7)}
            for stream, size, direction, share in [
                ("precip", 0.84, "UP", 0.41), ("humid", 0.62, "UP", 0.33),
                ("delay_mean_3h", 1.31, "SPREAD", 0.12), ("carrier", 0.07, "MIX", 0.08),
                ("wind_speed", -0.35, "DOWN", 0.04), ("missing:visib", 0.2, "UP", 0.02),
            ]
        ],
        "judgements": judgements(),
        "events": events(),
        "tables": {"predictions": "/tmp/state/delta/predictions"},
    }  # fmt: skip


@pytest.fixture
def figures():
    return a_run()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    to = tmp_path_factory.mktemp("page") / "page.html"
    write_page(a_run(), to)
    return to.read_text(encoding="utf-8")


@pytest.fixture
def write(tmp_path):
    def written(figures):
        write_page(figures, tmp_path / "page.html")
        return (tmp_path / "page.html").read_text(encoding="utf-8")

    return written


def empty_control():
    """A control in which nothing is decided, and one list is not even there."""
    return {
        "control": "no-labels",
        "passed": True,
        "checks": [{"name": "nothing was retrained", "passed": True, "detail": "0 runs"}],
        "speedup": 86_400.0,
        "event_start": START.isoformat(),
        "event_end": END.isoformat(),
        "waited_s": 0.0,
        "seconds": {},
        "versions": [],
        "rollouts": [],
        "loss_by_day": [],
        "weights": [],
        "evidence": [],
        "drift_by_feature": None,
        "events": [],
        "tables": {},
    }


def section(page, heading):
    return page.split(f"<h2>{heading}</h2>")[1].split("<h2>")[0]


def test_the_page_has_every_check_version_and_rollout(figures, page):
    for check in figures["checks"]:
        assert check["name"] in section(page, "Checks")
    for version in figures["versions"]:
        assert version["bundle_digest"][7:19] in section(page, "Versions")
    for rollout in figures["rollouts"]:
        assert f"<code>{rollout['rollout_id']}</code>" in section(page, "Rollouts")
    assert f"{figures['rows_answered']:,}" in section(page, "Counts")
    assert section(page, "Events").count("<tr>") == len(figures["events"]) + 1


def test_a_failed_check_is_told_at_the_top(figures, write):
    figures["passed"] = False
    figures["checks"][1]["passed"] = False

    page = write(figures)

    top = page.split("<h2>")[0]
    assert "FAIL" in top
    assert "PASS" not in top
    assert "nothing served is lost" in top
    assert "3 of 4 checks passed" in " ".join(top.split())


def test_a_run_that_passed_says_so_at_the_top(page):
    top = page.split("<h2>")[0]

    assert "PASS" in top
    assert "FAIL" not in top


def test_text_from_the_run_cannot_become_markup(figures, write):
    bad = "<script>alert(1)</script>"
    figures["checks"][0]["detail"] = figures["checks"][1]["name"] = bad
    figures["events"][7]["told"] = figures["events"][8]["type"] = bad
    figures["versions"][0]["status"] = figures["rollouts"][0]["end_reason"] = bad
    figures["failures"] = [bad]
    figures["drift_by_feature"][0]["stream"] = bad
    figures["judgements"][0]["stage"] = bad
    figures["tables"] = {bad: bad}

    page = write(figures)

    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 8


def test_a_stream_with_a_dollar_sign_is_no_formula(figures, write):
    figures["drift_by_feature"][0]["stream"] = r"fare $\frac$"

    assert r"fare $\frac$" in write(figures)


def test_the_page_loads_nothing_from_anywhere(page):
    assert "http" not in page
    assert "src=" not in page
    assert "@import" not in page
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', page))
    assert all(link.startswith("#") for link in re.findall(r"url\(([^)]*)\)", page))


def test_the_page_is_small_even_with_many_events(figures, write):
    figures["events"] = figures["events"] * 10

    assert len(write(figures).encode()) < 2_000_000


def test_every_plot_is_drawn_for_a_desk_and_for_a_phone(page):
    assert page.count("<svg") == 2 * len(KINDS) == 10


def test_ids_inside_plots_are_unique_and_found(page):
    ids = re.findall(r' id="([^"]*)"', page)
    used = re.findall(r'(?:href="#|url\(#)([^")]+)', page)
    assert len(ids) == len(set(ids))
    assert set(used) <= set(ids)


def test_plots_take_their_colours_from_the_page(page):
    assert "var(--v0)" in page
    assert "#010101" not in page
    assert "#0a0a0" not in page


def test_a_control_without_anything_is_a_page_that_says_none(write):
    page = write(empty_control())

    assert "<svg" not in page
    for heading in ("The cycles", "What was measured", "Versions", "Rollouts", "Events"):
        assert "none" in section(page, heading)
    assert "Nothing was decided" in page
    assert "control “no-labels”" in page


@pytest.mark.parametrize(
    "missing",
    [
        ("events",),
        ("evidence", "event_start"),
        ("event_end", "weights"),
        ("versions", "rollouts", "checks", "seconds", "ids", "skew", "tables", "speedup"),
    ],
)
def test_any_part_may_be_missing(figures, write, missing):
    for name in missing:
        del figures[name]

    assert "</html>" in write(figures)


def test_without_figures_there_is_a_page_nevertheless(write):
    assert "FAIL" in write({})


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, 0.0])
def test_a_number_that_is_none_is_left_out(figures, value):
    for part, names in NUMBERS.items():
        for row in figures[part]:
            row.update(dict.fromkeys(names, value))

    assert all(plot.svg for plot in draw_plots(figures))


def test_one_number_that_is_none_leaves_the_others(figures):
    for part, names in NUMBERS.items():
        figures[part][1].update(dict.fromkeys(names))

    assert all(plot.svg for plot in draw_plots(figures))


def test_figures_may_come_back_from_their_file(figures, write, page):
    assert write(json.loads(json.dumps(figures))) == page


def test_the_headline_tells_what_was_decided_in_order(figures):
    assert headline(figures) == (
        "The served version was found degraded on 19 June 2013; version 2 took over on 20 July; "
        "version 3 was stopped in shadow on 31 July; "
        "a person forced version 3 past the shadow on 31 July; "
        "version 3 was taken back on 7 August."
    )


def test_a_cycle_is_noticed_trained_judged_and_rolled_out(figures):
    found = cycles(figures)

    assert [cycle.title for cycle in found] == [
        "Version 1: promoted",
        "Version 2: rolled out, and stays",
        "Version 3: taken back",
    ]
    assert [step.name for step in found[1].steps] == ["noticed", "trained", "judged", "rolled out"]
    noticed, trained, judged, rolled_out = (
        [item.what for item in step.items] for step in found[1].steps
    )
    assert noticed == ["drift detected", "performance degraded"]
    assert trained == ["training started", "training completed", "version registered"]
    assert judged == ["gates evaluated"] + 3 * ["rollout judged"]
    assert rolled_out[-1] == "rollout completed"
    assert found[2].steps[3].name == "taken back"


def test_of_judgements_in_a_row_the_one_that_was_acted_upon_is_shown(figures):
    judged = [item for item in cycles(figures)[1].steps[2].items if item.what == "rollout judged"]

    assert [(item.day, item.text.split(",")[0]) for item in judged] == [
        ("12 Jul", "shadow: version 2 is better"),
        ("20 Jul", "canary: version 2 is not worse"),
        ("24 Jul", "baking: version 2 is not worse"),
    ]


def test_what_a_person_asked_for_is_the_beginning_of_its_cycle(figures):
    noticed = cycles(figures)[2].steps[0].items

    assert [(item.day, item.text) for item in noticed] == [("24 Jul", "manual by intern")]


def test_moments_are_those_of_the_played_time(figures):
    assert [(f"{m.time:%d %b}", m.text) for m in moments(figures)] == [
        ("19 Jun", "alarm"),
        ("19 Jun", "version 2 trained"),
        ("20 Jul", "version 2 promoted"),
        ("24 Jul", "version 3 trained"),
        ("31 Jul", "version 3 stopped in shadow"),
        ("31 Jul", "version 3 forced"),
        ("07 Aug", "version 3 taken back"),
    ]


def test_every_moment_is_named_above_the_losses(figures):
    svg = draw_plots(figures)[0].svg["wide"]

    for moment in moments(figures):
        assert f" {moment.text}</text>" in svg
