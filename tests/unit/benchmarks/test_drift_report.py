"""What is kept, printed, drawn and put into the README."""

from __future__ import annotations

import pytest
from tests.benchmarks.drift import arms, budgets, delays, plots, readme, store, table
from tests.benchmarks.drift.figures import Figure, Target
from tests.benchmarks.drift.store import Job, measure

BELOW = Target(1.2, 1.05, upper=True)


@pytest.fixture
def cache(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "CACHE", tmp_path)
    return tmp_path


def small(name: str, runs: int, sources: tuple[str, ...] = store.OURS) -> Job:
    return Job(name, budgets.count, ("i.i.d.", 200, 20, range(runs)), sources)


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (Figure("p", "n", 0.9, interval=(0.8, 1.0), target=BELOW), "aim"),
        (Figure("p", "n", 0.9, interval=(0.7, 1.1), target=BELOW), "ok"),
        (Figure("p", "n", 0.9, interval=(0.7, 1.3), target=BELOW), "MISS"),
        (Figure("p", "n", 1.9, interval=(1.7, 2.3), target=BELOW, is_flagged=True), "flagged"),
        (Figure("p", "n", 0.3, target=Target(1.2, 1.05, aim_from=0.7)), "ok"),
        (Figure("p", "n", 500.0, target=Target(400.0, 1_000.0, at_least=True)), "ok"),
        (Figure("p", "n", 300.0, target=Target(400.0, 1_000.0, at_least=True)), "MISS"),
        (Figure("p", "n", None, note="missed", target=Target(1.2)), "MISS"),
        (Figure("p", "n", 0.9), ""),
    ],
)
def test_a_figure_is_judged_by_its_target(figure: Figure, verdict: str):
    assert figure.verdict == verdict


def test_what_was_measured_is_not_measured_again(cache, monkeypatch: pytest.MonkeyPatch):
    jobs = [small("b", 2), small("a", 3)]
    first = measure(jobs, 1)
    monkeypatch.setattr(store, "ProcessPoolExecutor", None)

    assert measure(jobs, 1) == first
    assert list(first) == ["b", "a"]


def test_other_arguments_or_other_sources_are_measured_anew(cache):
    paths = {
        small("a", 2).path,
        small("a", 3).path,
        small("a", 2, store.PEERS).path,
        small("a", 2).path,
    }

    assert len(paths) == 3


def test_a_job_without_sources_is_never_kept(cache):
    measure([small("a", 2, ())], 1)

    assert list(cache.iterdir()) == []


def test_a_failure_ends_the_run_and_keeps_what_was_found_before(cache):
    broken = Job("b", budgets.count, ("no such world", 200, 20, range(2)), store.OURS)

    with pytest.raises(KeyError, match="no such world"):
        measure([small("a", 2), broken], 1)

    assert [path.suffix for path in cache.iterdir()] == [".json"]


def test_only_what_stands_between_the_markers_is_replaced(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"# a\n{readme.BEGIN}\nold\n{readme.END}\nlast\n")

    readme.put("new", page)
    readme.put("newer", page)

    assert page.read_text() == f"# a\n{readme.BEGIN}\nnewer\n{readme.END}\nlast\n"


def test_a_page_without_markers_gets_them_at_its_end(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("# a\n")

    readme.put("new", page)

    assert page.read_text() == f"# a\n\n{readme.BEGIN}\nnew\n{readme.END}\n"


def test_a_page_with_half_a_pair_of_markers_is_refused(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"# a\n{readme.END}\n{readme.BEGIN}\n")

    with pytest.raises(ValueError, match="expected both, in order"):
        readme.put("new", page)


def test_figures_are_told_as_lines_tables_and_the_same_drawing_twice(tmp_path):
    counts = {"null": 2, "changed": 2}
    found = {f"{arms.LIMIT} | 1000 | x": arms.watch_limit(1_000, range(10), counts)}
    figures = delays.figures(found)
    first, second = tmp_path / "1.svg", tmp_path / "2.svg"

    plots.draw(delays.plot(found), first)
    plots.draw(delays.plot(found), second)

    assert table.lines(figures).count("\n") == len(figures) - 1
    assert "| clairvoyant CUSUM | " in table.markdown(figures)
    assert first.read_bytes() == second.read_bytes()
    assert b"<path" in first.read_bytes()
    assert first.stat().st_size < 60_000
