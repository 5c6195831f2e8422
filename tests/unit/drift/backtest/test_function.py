"""What the function finds, keeps, refuses and notes."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tests.unit.drift.backtest.worlds import labelled, reference, table, timed

from ciclo_drift import DriftInputError, Kind
from ciclo_drift.backtest import backtest
from ciclo_drift.backtest.report import counted
from ciclo_drift.backtest.result import FORMAT
from ciclo_drift.budget import Budget

BUDGET = "1 per 2000 rows"


def without_time_taken(found) -> dict:
    return {name: value for name, value in found.to_dict().items() if name != "seconds"}


def test_a_planted_shift_is_found_where_it_began():
    found = backtest(reference(), table(3_000, 1, shift_at=2_000), budget="1 per 20000 rows")

    first = found.alarms[0]
    assert (first.stream, first.change, first.kind) == ("load", "up", Kind.COVARIATE)
    assert first.since_low <= 2_000 <= first.since_high
    assert 2_000 <= first.row <= 2_050
    assert first.size > 0.5
    assert first.certified


def test_a_change_that_lasts_is_one_change_with_many_alarms():
    found = backtest(reference(), table(8_000, 1, shift_at=2_000), budget="1 per 20000 rows")

    assert len(found.episodes) == 1
    assert found.episodes[0].alarms == len(found.alarms) > 3
    assert found.episodes[0].last_row > 7_000
    assert found.spending.alarms == 1


def test_a_change_that_lasts_hides_no_other():
    live = table(8_000, 1, shift_at=2_000, shift=4.0)
    live["speed"][5_000:] += 1.0

    found = backtest(reference(), live, budget="1 per 20000 rows")

    assert [episode.streams for episode in found.episodes] == [("load",), ("speed",)]
    assert 5_000 <= found.episodes[1].first_row <= 5_060


def test_a_change_back_and_forth_is_two_changes():
    live = table(6_000, 1, shift_at=1_000)
    live["load"][3_000:] -= 2.0

    found = backtest(reference(), live, budget="1 per 20000 rows")

    assert next(alarm.change for alarm in found.alarms if alarm.episode == 1) == "down"
    assert len(found.episodes) == 2


def test_a_stream_without_change_keeps_the_budget():
    spent = [
        backtest(reference(seed), table(10_000, 100 + seed), budget="1 per 1000 rows").spending
        for seed in range(8)
    ]

    allowed = sum(one.allowed for one in spent)
    assert allowed == pytest.approx(80.0, rel=0.1)
    # Two and a half standard errors; seeds are fixed.
    assert 0.2 * allowed <= sum(one.alarms for one in spent) <= allowed + 2.5 * np.sqrt(allowed)


def test_dicts_pandas_and_arrow_give_the_same():
    before, now = timed(reference()), timed(table(2_500, 1, shift_at=1_500))
    for side in (before, now):
        side["load"][::50] = np.nan
        side["code"] = np.where(side["speed"] > 0, 1, 2)
        side["sunny"] = side["speed"] > 0.5
    options = {"budget": BUDGET, "time": "time", "categorical": ["code"], "season": "hour"}

    found = [
        without_time_taken(backtest(make(before), make(now), **options))
        for make in (dict, pd.DataFrame, pa.table)
    ]

    assert found[0]["alarms"]
    assert found[0] == found[1] == found[2]


def test_equal_tables_give_equal_results():
    before, now = reference(), table(2_500, 1, shift_at=1_500)

    first, second = (without_time_taken(backtest(before, now, budget=BUDGET)) for _ in range(2))

    assert first == second


def test_a_season_raises_no_alarm_once_it_is_found():
    def seasonal(rows: int, seed: int) -> dict:
        columns = timed(table(rows, seed))
        hours = np.arange(rows) / 4 % 24
        return columns | {"load": columns["load"] + 2.0 * np.sin(hours * np.pi / 12)}

    before, now = seasonal(96 * 40, 1), seasonal(96 * 10, 2)

    found = backtest(before, now, budget="1 per 60 days", time="time", season="auto")

    assert found.settings["season"] == "hour"
    assert found.certificate.certified
    assert found.alarms == ()


def test_an_hour_that_the_reference_never_saw_is_noted():
    before, now = timed(reference(), 1), timed(table(96, 2))
    before["time"] = np.datetime64("2026-01-05", "us") + (
        np.arange(4_000) % 720 * np.timedelta64(1, "m")
        + np.arange(4_000) // 720 * np.timedelta64(1, "D")
    )

    found = backtest(before, now, budget=BUDGET, time="time", season="hour")

    assert "48 rows of a phase of 'hour' that the reference never saw" in found.notes[0]


def test_labels_tell_cost_and_kind():
    columns = labelled(4_000, 1), labelled(5_000, 2, concept_at=3_000)

    found = backtest(*columns, budget="1 per 20000 rows", label="label", score="score", block=None)

    first = found.alarms[0]
    assert found.loss == "log loss"
    assert 3_000 <= first.row <= 3_200
    assert first.kind is Kind.CONCEPT
    assert first.effect is not None


def test_too_few_labels_leave_the_kind_open():
    before, now = labelled(4_000, 1), labelled(5_000, 2, concept_at=3_000)
    now["label"][3_000:] = np.nan

    found = backtest(before, now, budget="1 per 20000 rows", label="label", score="score")

    assert found.alarms[0].kind is None
    assert found.to_dict()["alarms"][0]["kind"] is None


def test_the_mean_loss_of_blocks_rises():
    before, now = labelled(4_000, 1), labelled(6_000, 2, concept_at=3_000)

    found = backtest(
        before, now, budget="1 per 2000 rows", label="label", score="score", block="day"
    )

    rise = max(found.loss_rises, key=lambda rise: rise.rise)
    assert abs(rise.since_row - 3_000) <= 300
    assert rise.lower <= rise.rise <= rise.upper
    assert rise.lower > 0.0
    assert rise.kind is Kind.CONCEPT


def test_numbers_have_an_absolute_error_and_classes_an_error():
    before, now = reference(), table(1_000, 1)
    for side in (before, now):
        side["guess"] = side["load"] + side["speed"]
        side["class"] = np.where(side["speed"] > 1.0, "gas", side["fuel"])
        side["high"] = side["load"] > 0.0

    numbers = backtest(before, now, budget=BUDGET, label="load", prediction="guess")
    classes = backtest(before, now, budget=BUDGET, label="fuel", prediction="class")
    truths = backtest(before, now, budget=BUDGET, label="high", prediction="guess")

    assert (numbers.loss, classes.loss) == ("absolute error", "error")
    assert truths.loss == "absolute error"
    with pytest.raises(DriftInputError, match=r"fuel: '.*' at row 0; expected 0 and 1, or true"):
        backtest(before, now, label="fuel", prediction="guess")


def test_an_input_that_goes_missing_is_broken():
    now = table(3_000, 1)
    now["speed"][2_000:] = np.nan

    found = backtest(reference(), now, budget="1 per 20000 rows")

    assert [(e.fault, e.kind) for e in found.episodes] == [("missing", Kind.BROKEN_INPUT)]
    assert 2_000 <= found.alarms[0].row <= 2_005


def test_columns_are_watched_left_out_and_noted_as_they_deserve():
    before, now = reference(), table(500, 1)
    for side in (before, now):
        rows = len(side["load"])
        side["row_id"] = np.arange(rows)
        side["name"] = np.array([f"row {i}" for i in range(rows)])
        side["constant"] = np.full(rows, 7)
        side["empty"] = np.full(rows, np.nan)
        side["seen_at"] = np.full(rows, np.datetime64("2026-01-01", "s"))
    now["extra"] = np.zeros(500)

    found = backtest(before, now, budget=BUDGET)

    assert found.streams == ("load", "speed", "fuel", "constant")
    noted = "\n".join(found.notes)
    assert "row_id is left out: it never falls from row to row" in noted
    assert "name is left out: every row has another text" in noted
    assert "constant has one value in the reference and is watched as a category" in noted
    assert "empty is left out: the reference has no value of it" in noted
    assert "seen_at is left out: it holds times" in noted
    assert "extra: new in the stream, not watched" in noted


def test_a_constant_that_changes_is_found_at_once():
    before, now = reference(), table(1_000, 1)
    before["constant"], now["constant"] = np.full(4_000, 7), np.repeat([7, 8], 500)

    found = backtest(before, now, budget="1 per 20000 rows")

    assert found.alarms[0].stream == "constant"
    assert 500 <= found.alarms[0].row <= 520


def test_a_clock_that_jumps_back_and_missing_times_are_counted_and_rows_keep_their_order():
    before, now = timed(reference()), timed(table(2_500, 1, shift_at=1_500))
    straight = backtest(before, now, budget=BUDGET, time="time")
    now["time"] = now["time"].copy()
    now["time"][100] = now["time"][50]
    now["time"][7] = np.datetime64("NaT")

    found = backtest(before, now, budget=BUDGET, time="time")

    assert [alarm.row for alarm in found.alarms] == [alarm.row for alarm in straight.alarms]
    assert "time jumps back 1 time in the stream: rows keep their order" in found.notes
    assert "time is missing in 1 row of the stream: taken from the row before" in found.notes


def test_a_reference_that_is_too_short_is_refused_with_what_would_do():
    walk = np.cumsum(np.random.default_rng(0).normal(size=(2, 2_000)), axis=1)
    before, now = ({"load": values} for values in walk)

    with pytest.raises(
        DriftInputError, match=r"2000 rows, budget not certifiable.*at least \d+ rows"
    ):
        backtest(before, now, budget="1 per 1000 rows")
    found = backtest(before, now, budget="1 per 1000 rows", report_only=True)

    assert not any(alarm.certified for alarm in found.alarms)
    assert not found.certificate.certified


def test_a_budget_beyond_the_reference_is_refused_with_one_that_fits():
    before = labelled(4_000, 1)

    with pytest.raises(DriftInputError, match="a budget of 1 per 4000 rows, or `report_only`"):
        backtest(before, before, budget="1 per 100000 rows", block="day")
    backtest(before, before, budget="1 per 4000 rows", block="day")


def change(columns: dict, **others) -> dict:
    return {name: column for name, column in {**columns, **others}.items() if column is not None}


BEFORE, NOW = timed(reference()), timed(table(300, 1))


@pytest.mark.parametrize(
    ("before", "now", "options", "message"),
    [
        (BEFORE, change(NOW, load=None, fuel=None), {}, "stream: no column load, fuel; expected"),
        (BEFORE, change(NOW, load=NOW["fuel"]), {}, "load: text in the stream, numbers in the ref"),
        (BEFORE, change(NOW, fuel=NOW["load"]), {}, "fuel: numbers in the stream, text in the ref"),
        (BEFORE, change(NOW, load=NOW["load"][:5]), {}, "stream: columns of lengths"),
        (
            BEFORE,
            NOW,
            {"time": "clock"},
            "time: no column 'clock' in the reference; expected one of",
        ),
        (BEFORE, change(NOW, time=None), {"time": "time"}, "time: no column 'time' in the stream"),
        (BEFORE, NOW, {"time": "fuel"}, "fuel: texts that are no times"),
        (BEFORE, NOW, {"season": "hour"}, "season: 'hour' and no times; expected the column"),
        (BEFORE, NOW, {"season": "tide", "time": "time"}, "season: 'tide'; expected some of"),
        (BEFORE, NOW, {"budget": "rarely"}, "budget: 'rarely'; expected so many alarms"),
        (BEFORE, NOW, {"budget": "1 per day"}, "budget: alarms per time, and no rate of rows"),
        (BEFORE, NOW, {"categorical": ["colour"]}, "categorical: no column 'colour'"),
        (BEFORE, NOW, {"label": "fuel", "score": "load"}, "fuel: '.*' at row 0; expected 0 and 1"),
        (
            change(BEFORE, load=None, speed=None, fuel=None),
            NOW,
            {},
            "reference: no column to watch",
        ),
        (timed(table(50, 1)), NOW, {}, "load: 50 rows; expected at least 100"),
        (BEFORE, NOW, {"seed": -3}, "seed: -3; expected a whole number, 0 or more"),
        (BEFORE, NOW, {"budget": True}, "budget: a bool; expected so many alarms"),
        (BEFORE, NOW, {"budget": -5.0}, "budget: 1 per -5; expected numbers above 0"),
        ([1, 2], NOW, {}, "reference: a list; expected a dict of arrays, a pandas DataFrame or a"),
        ({}, NOW, {}, "reference: no rows or no columns"),
        ({"load": np.zeros(0)}, NOW, {}, "reference: no rows or no columns"),
        (change(BEFORE, load=np.zeros((4_000, 2))), NOW, {}, r"load: shape \(4000, 2\)"),
        (change(BEFORE, load=np.full(4_000, 1j)), NOW, {}, "load: values of type complex128"),
        (
            change(BEFORE, block=np.arange(4_000) % 9),
            change(NOW, block=np.zeros(300)),
            {"block": "block"},
            "blocks: a block whose rows do not lie together",
        ),
    ],
)
def test_bad_input_is_refused_in_words(before, now, options: dict, message: str):
    with pytest.raises(DriftInputError, match=message):
        backtest(before, now, **options)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (np.full(4_000, 0.3), "score: text, or one value only"),
        (np.linspace(-1, 1, 4_000) ** 3 * np.tile([1, -1], 2_000), "score: from -1 to 0.99"),
    ],
)
def test_a_score_that_is_no_probability_is_refused(column: np.ndarray, message: str):
    before, now = labelled(4_000, 1), labelled(300, 2)

    with pytest.raises(DriftInputError, match=message):
        backtest(before | {"score": column}, now, label="label", score="score")


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ({"label": np.zeros(4_000)}, {}, "the kind of change cannot be told .labels: all 0"),
        ({"label": np.full(4_000, np.nan)}, {}, "label has no value in the reference: no losses"),
        ({}, {"label": None}, "label is absent from the stream: no losses"),
        ({}, {}, "the mean loss is not tested: it needs blocks of rows, or times"),
    ],
)
def test_labels_that_do_not_help_are_noted(before: dict, now: dict, message: str):
    tables = labelled(4_000, 1), labelled(300, 2)

    found = backtest(
        change(tables[0], **before, day=None),
        change(tables[1], **now, day=None),
        budget=BUDGET,
        label="label",
        score="score",
    )

    assert any(np.char.find(note, message.replace(" .", " (")) >= 0 for note in found.notes)


def test_a_column_that_lost_all_its_values_is_an_alarm_and_no_error():
    now = change(table(500, 1), load=np.array([None] * 500))

    found = backtest(reference(), now, budget=BUDGET)

    assert found.episodes[0].fault == "missing"


def test_progress_ends_with_all_rows():
    seen: list[tuple[int, int]] = []

    backtest(reference(), table(1_000, 1), budget=BUDGET, progress=lambda *now: seen.append(now))

    assert seen[-1] == (1_000, 1_000)
    assert seen == sorted(seen)


def test_the_figures_keep_their_names():
    columns = labelled(4_000, 1), labelled(5_000, 2, concept_at=3_000)
    found = backtest(*columns, budget="1 per 2000 rows", label="label", score="score", block="day")

    figures = json.loads(json.dumps(found.to_dict(), allow_nan=False))

    assert figures["format"] == FORMAT == "ciclo_drift.backtest/1"
    assert set(figures) == {
        "format", "settings", "streams", "reference_rows", "rows", "threshold", "certificate",
        "spending", "episodes", "alarms", "loss", "loss_rises", "notes", "seconds",
    }  # fmt: skip
    assert set(figures["settings"]) == {
        "budget", "budget_rows", "time", "season", "label", "score", "prediction", "block",
        "categorical", "seed", "report_only",
    }  # fmt: skip
    assert set(figures["spending"]) == {
        "budget_rows", "rows", "alarms", "allowed", "ratio", "ratio_low", "ratio_high", "by_stream"
    }  # fmt: skip
    assert set(figures["alarms"][0]) == {
        "row", "time", "since_row", "since_low", "since_high", "since_time", "stream", "change",
        "size", "category", "before", "now", "effect", "fault", "kind", "certified", "episode",
        "culprits",
    }  # fmt: skip
    assert set(figures["episodes"][0]) == {
        "since_row", "first_row", "last_row", "alarms", "streams", "kind",
        "fault",
    }  # fmt: skip
    assert set(figures["loss_rises"][0]) == {
        "row", "time", "since_row", "since_time", "before", "rise", "lower", "upper", "kind"
    }  # fmt: skip


def test_what_streams_led_adds_up_to_the_changes():
    found = backtest(reference(), table(6_000, 3, shift_at=3_000), budget="1 per 1000 rows")

    assert sum(found.spending.by_stream.values()) == pytest.approx(found.spending.alarms)


SCORED = {"label": "label", "score": "score"}


def test_streams_and_loss_share_the_budget():
    before, now = labelled(4_000, 1), labelled(6_000, 2, concept_at=3_000)
    streams = [change(side, label=None) for side in (before, now)]
    alone = backtest(*streams, budget="1 per 4000 rows", block="day")

    both = backtest(before, now, budget="1 per 2000 rows", block="day", **SCORED)

    spent = both.spending
    assert both.threshold == alone.threshold
    assert (both.settings["budget"], both.settings["budget_rows"]) == ("1 per 2000 rows", 2_000.0)
    assert spent.budget_rows == 2_000.0
    assert spent.alarms == len(both.episodes) + len(both.loss_rises) > len(both.episodes)
    assert spent.by_stream["log loss"] == len(both.loss_rises)
    assert sum(spent.by_stream.values()) == pytest.approx(spent.alarms)
    assert "half of it for the mean log loss" in str(both)
    assert f"{counted(len(both.loss_rises), 'rise')} of the loss" in str(both)


def test_a_budget_that_cannot_be_shared_is_refused_with_one_that_can():
    before = labelled(4_000, 1)

    with pytest.raises(DriftInputError, match="at least 8000 rows, a budget of 1 per 2000 rows"):
        backtest(before, before, budget="1 per 4000 rows", block="day", **SCORED)


def test_streams_and_loss_keep_the_budget_together():
    spent = [
        backtest(
            labelled(4_000, seed), labelled(6_000, 50 + seed), block="day", **SCORED,
            budget="1 per 2000 rows",
        ).spending
        for seed in range(4)
    ]  # fmt: skip

    allowed = sum(one.allowed for one in spent)
    assert allowed == pytest.approx(12.0, rel=0.1)
    assert sum(one.alarms for one in spent) <= allowed + 2.5 * np.sqrt(allowed)


def test_rows_without_a_label_spend_nothing_of_the_half_of_the_loss():
    before, now = labelled(4_000, 1), labelled(2_000, 2)
    now["label"][1_000:] = np.nan

    found = backtest(before, now, budget="1 per 2000 rows", block="day", **SCORED)

    assert found.episodes == ()
    assert found.spending.rows == 1_500


@pytest.mark.parametrize(
    ("unlabelled", "block", "note"),
    [
        (False, None, "the mean loss is not tested: it needs blocks of rows, or times"),
        (True, "day", "the mean loss is not tested: no row of the stream has a known one"),
        (True, "day", "label has no value in the stream: nothing is known of its losses"),
    ],
)
def test_a_loss_that_is_not_tested_is_not_said_to_be_steady(
    unlabelled: bool, block: str | None, note: str
):
    before, now = labelled(4_000, 1), labelled(500, 2)
    if unlabelled:
        now["label"][:] = np.nan

    found = backtest(before, now, budget="1 per 2000 rows", block=block, **SCORED)

    assert found.loss_rises is None
    assert found.to_dict()["loss_rises"] is None
    assert found.spending.budget_rows == 2_000.0
    assert note in found.notes
    assert "no rise" not in str(found)
    assert "log loss: whether its mean rose was not tested" in str(found)


def test_a_loss_that_is_tested_and_steady_says_so():
    found = backtest(
        labelled(4_000, 1), labelled(500, 2), budget="1 per 2000 rows", block="day", **SCORED
    )

    assert found.loss_rises == ()
    assert "log loss: no rise of the mean was found" in str(found)


@pytest.mark.parametrize("budget", [2_000, 2_000.0, np.int64(2_000), Budget(1.0, 2_000.0)])
def test_a_budget_may_be_a_number_of_rows(budget):
    words, number = (
        backtest(reference(), table(300, 1), budget=given) for given in (BUDGET, budget)
    )

    assert without_time_taken(number) == without_time_taken(words)


def test_a_single_categorical_column_needs_no_list():
    before, now = reference(), table(300, 1)
    for side in (before, now):
        side["code"] = np.where(side["speed"] > 0, 1, 2)

    one, many = (
        without_time_taken(backtest(before, now, budget=BUDGET, categorical=names))
        for names in ("code", ["code"])
    )

    assert one == many
    assert one["settings"]["categorical"] == "code"


def test_whole_numbers_that_float64_cannot_tell_apart_are_not_called_one_value():
    before, now = reference(), table(300, 1)
    before["id"], now["id"] = 2**60 + np.arange(4_000) % 50, 2**60 + np.arange(300) % 50

    found = backtest(before, now, budget=BUDGET)

    assert any(
        "id has one value in the reference once rounded to float64" in n for n in found.notes
    )


def test_texts_that_never_fall_are_clocks():
    before, now = reference(), table(300, 1)
    for side in (before, now):
        rows = len(side["load"])
        side["date"] = (np.datetime64("2026-01-01") + np.arange(rows) // 96).astype(str)
        side["version"] = np.where(np.arange(rows) < rows // 2, "v1", "v2")

    found = backtest(before, now, budget=BUDGET, report_only=True)

    assert found.streams == ("load", "speed", "fuel", "version")
    assert "date is left out: it never falls from row to row, as counters and clocks do" in (
        found.notes
    )


def test_one_of_a_thing_is_singular():
    found = backtest(reference(), table(3_000, 1, shift_at=2_000), budget="1 per 20000 rows")

    assert "1 change is " in str(found)
    assert counted(1, "row") == "1 row"
    assert counted(2_000, "row") == "2,000 rows"
