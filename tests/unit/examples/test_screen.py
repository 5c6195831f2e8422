import io
from datetime import UTC, datetime

import pytest
from rich.console import Console
from screen import Screen, View

START_US, END_US = 1_368_604_800_000_000, 1_376_035_200_000_000


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def plain():
    return Console(file=io.StringIO(), width=40)


def terminal(width=80):
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        record=True,
        width=width,
        _environ={"TERM": "xterm-256color"},
    )


def said(console):
    return console.file.getvalue().splitlines()


def a_view(**changes):
    shown = {
        "event_time": datetime(2013, 6, 19, 12, tzinfo=UTC),
        "rate_days_per_s": 1.01,
        "rows_answered": 35_120,
        "failed": 0,
        "waited_s": 0.4,
        "champion_loss": 0.583,
        "challenger_loss": None,
        "evidence": 342.1,
        "threshold": 120.0,
        "moved": ["precip", "humid"],
        "weights": {2: 0.05, 1: 0.95},
        "stage": "traffic",
    }
    return View(**{**shown, **changes})


FIGURES = {
    "passed": True,
    "checks": [{"name": "no request failed", "passed": True, "detail": "0 of [bold]86897[/bold]"}],
    "versions": [
        {"version": 2, "status": "champion", "newest_event_time": "2013-06-19T00:00:00Z",
         "metrics": {"log_loss": 0.5531}},
    ],
    "rollouts": [
        {"rollout_id": "r4", "version": 3, "stage": "rolled_back", "days": 6, "rows": 5421,
         "mean_gain": -0.44, "limited_gain": -0.38, "gain_low": None, "gain_high": -0.35,
         "verdict": "WORSE", "end_reason": "WORSE", "exposed_rows": 881},
    ],
    "rows_answered": 86_897,
    "failed": 0,
    "ids_lost": 0,
    "speedup": 86_400.0,
    "seconds": {"total": 128.0},
}  # fmt: skip


def test_where_there_is_no_terminal_every_word_is_a_plain_line(plain, clock):
    with Screen(plain, clock=clock) as screen:
        clock.now += 12.34
        screen.stage("traffic [bold]on[/bold]")
        screen.note("2013-06-19 PerformanceDegraded " + "log_loss 0.411 → 0.583 " * 9)

    lines = said(plain)
    assert lines[0] == "[ 12.3 s] traffic [bold]on[/bold]"
    assert lines[1].strip().startswith("2013-06-19 PerformanceDegraded")
    assert len(lines) == 2, "a line is never broken, however long"
    assert "\x1b" not in plain.file.getvalue()


def test_a_plain_line_of_progress_comes_at_most_every_five_seconds(plain, clock):
    with Screen(plain, clock=clock) as screen:
        for _ in range(121):
            screen.show(a_view())
            clock.now += 0.25

    assert len(said(plain)) == 7  # at 0, 5, …, 30 s


def test_a_plain_line_of_progress_tells_how_things_stand(plain, clock):
    with Screen(plain, clock=clock) as screen:
        screen.show(a_view())

    (line,) = said(plain)
    assert "2013-06-19 12:00 at 1.01 days/s" in line
    assert "loss 0.583, challenger's none" in line
    assert "evidence 342.1 of 120" in line
    assert "moved precip, humid" in line
    assert "version 1 95%, version 2 5%" in line


def test_a_terminal_shows_a_panel_with_notes_above_it(clock):
    console = terminal()
    with Screen(console, start_us=START_US, end_us=END_US, clock=clock) as screen:
        screen.stage("bootstrap")
        screen.show(a_view(stage="traffic"))
        screen.note("2013-06-19 PerformanceDegraded")

    text = console.export_text()
    assert "2013-06-19 PerformanceDegraded" in text
    assert "Ciclo, 0 s: traffic" in text
    for row in ("2013-06-19 12:00, 1.01 days/s", "35,120 rows, 0 failed", "champion 0.583"):
        assert row in text
    assert "########## 342.1 of 120" in text
    assert "version 1 95%, version 2 5%" in text
    assert "━" in text, "the bar of event time"
    assert text.index("PerformanceDegraded") < text.rindex("342.1 of 120")


def test_a_screen_without_a_span_shows_no_bar(clock):
    console = terminal()
    with Screen(console, clock=clock) as screen:
        screen.show(a_view())

    text = console.export_text()
    assert "342.1 of 120" in text
    assert "━" not in text


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(clock):
    console = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    with Screen(console, clock=clock) as screen:
        screen.show(a_view())

    assert len(said(console)) == 1


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 13, 21, 34, 400])
def test_no_width_is_too_odd(width, clock):
    for console in (terminal(width), Console(file=io.StringIO(), width=width)):
        with Screen(console, start_us=START_US, end_us=END_US, clock=clock) as screen:
            screen.stage("traffic")
            screen.show(a_view())
            screen.note("a note")
            screen.summary(FIGURES)
        assert "PASS: 1 of 1 checks" in console.file.getvalue()


@pytest.mark.parametrize(
    "view",
    [
        a_view(event_time=None, champion_loss=None, evidence=None, threshold=None, moved=[]),
        a_view(evidence=float("nan"), threshold=0.0, weights={}),
        a_view(event_time=datetime(2014, 1, 1, tzinfo=UTC), evidence=-1.0),
        a_view(event_time=datetime(2012, 1, 1, tzinfo=UTC), evidence=float("inf")),
    ],
)
def test_what_is_not_known_yet_is_none(view, clock):
    for console in (terminal(), Console(file=io.StringIO())):
        with Screen(console, start_us=START_US, end_us=END_US, clock=clock) as screen:
            screen.show(view)
        assert "none" in console.file.getvalue() or view.evidence == -1.0


def test_the_summary_tells_checks_versions_rollouts_and_where_the_page_lies(plain, clock, tmp_path):
    with Screen(plain, clock=clock) as screen:
        screen.summary(FIGURES, tmp_path / "demo.html")

    lines = said(plain)
    assert "  PASS  no request failed  0 of [bold]86897[/bold]" in lines
    assert "  version 2  champion  2013-06-19  log_loss 0.553" in lines
    wanted = "version 3  rolled back  worse  -0.4400 a row, by day -0.3800 [none, -0.3500]"
    assert any(wanted in line for line in lines)
    assert any(line.startswith("86,897 rows answered; 0 failed") for line in lines)
    assert f"The page of this run: {tmp_path / 'demo.html'}" in lines
    assert lines[-1] == "PASS: 1 of 1 checks"


def test_the_summary_in_a_terminal_is_tables_after_the_panel_is_gone(clock):
    console = terminal(120)
    with Screen(console, clock=clock) as screen:
        screen.show(a_view())
        screen.summary(FIGURES)

    text = console.export_text()
    assert "no request failed" in text
    assert "0 of [bold]86897[/bold]" in text
    assert "rolled back" in text
    assert "┃" in text
    assert text.rstrip().endswith("PASS: 1 of 1 checks")


def test_the_summary_may_come_after_the_screen_is_closed(clock):
    console = terminal(120)
    with Screen(console, clock=clock) as screen:
        screen.stage("traffic")
    screen.summary(FIGURES)

    assert "┃" in console.export_text()


def test_a_summary_without_figures_says_none_and_fails(plain, clock):
    with Screen(plain, clock=clock) as screen:
        screen.summary({})

    lines = said(plain)
    assert {"checks: none", "versions: none", "rollouts: none"} <= set(lines)
    assert lines[-1] == "FAIL: 0 of 0 checks"


def test_a_screen_closes_when_the_run_breaks(clock):
    console = terminal()

    def run():
        with Screen(console, clock=clock) as screen:
            screen.show(a_view())
            raise TimeoutError

    with pytest.raises(TimeoutError):
        run()
    assert "\x1b[?25h" in console.file.getvalue(), "the cursor is back"
