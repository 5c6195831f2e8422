"""The command line, as a newcomer meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from tests.unit.drift.backtest.worlds import labelled, reference, table, timed

from ciclo_drift.backtest.cli import main

if TYPE_CHECKING:
    from pathlib import Path

LIGHT = """
import sys
import ciclo_drift, ciclo_drift.kinds, ciclo_drift.seasons, ciclo_drift.budget
light = set(sys.modules)
import ciclo_drift.backtest
for heavy in ("pandas", "pyarrow", "matplotlib"):
    assert heavy not in sys.modules, heavy
assert "ciclo_drift.backtest" not in light
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def write(folder: Path, before: dict, now: dict) -> list[str]:
    """Both tables as files, and the arguments that name them."""
    paths = [folder / "before.parquet", folder / "now.parquet"]
    for path, columns in zip(paths, (before, now), strict=True):
        pd.DataFrame(columns).to_parquet(path)
    return ["backtest", "--reference", str(paths[0]), "--stream", str(paths[1])]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    live = timed(table(3_000, 1, shift_at=2_000))
    return write(tmp_path_factory.mktemp("files"), timed(reference()), live)


def test_five_lines_find_a_planted_drift(tmp_path: Path):
    rng = np.random.default_rng(0)
    pd.DataFrame({"wait": rng.gamma(2.0, 10.0, 5_000)}).to_parquet(tmp_path / "june.parquet")
    july = np.concatenate([rng.gamma(2.0, 10.0, 2_000), rng.gamma(2.0, 15.0, 1_000)])
    pd.DataFrame({"wait": july}).to_parquet(tmp_path / "july.parquet")
    june, july_file = str(tmp_path / "june.parquet"), str(tmp_path / "july.parquet")
    done = python("-m", "ciclo_drift", "backtest", "--reference", june, "--stream", july_file)

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    first, budget, certified, _, names, change = done.stdout.splitlines()[:6]
    assert first.startswith("1 change")
    assert "budget: 1 per 100000 rows" in budget
    assert certified.startswith("reference: certified on 5000 rows")
    assert names.split()[:2] == ["change", "row"]
    assert "wait" in change
    assert 2_000 <= int(change.split()[1].replace(",", "")) <= 2_100


def test_the_library_is_imported_without_tables_and_plots():
    done = python("-c", LIGHT)

    assert done.returncode == 0, done.stderr


def test_files_are_read_without_pandas(files: list[str]):
    code = f"from ciclo_drift.backtest.cli import main; main({files!r})"
    done = python("-c", f"{code}; import sys; assert 'pandas' not in sys.modules")

    assert done.returncode == 0, done.stderr


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 0
    assert "backtest" in capsys.readouterr().out


def test_help_has_one_example(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="0"):
        main(["backtest", "--help"])

    assert "example:\n  python -m ciclo_drift backtest --reference" in capsys.readouterr().out


def test_json_goes_to_standard_output_or_a_file(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    budget = ["--budget", "1 per 20000 rows", "--time", "time"]

    assert main([*files, *budget, "--json", "-"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert main([*files, *budget, "--json", str(tmp_path / "found.json")]) == 0
    saved = json.loads((tmp_path / "found.json").read_text())

    assert printed | {"seconds": 0} == saved | {"seconds": 0}
    assert printed["alarms"][0]["stream"] == "load"
    assert printed["alarms"][0]["time"].startswith("2026-01-26T")
    assert printed["settings"]["budget"] == "1 per 20000 rows"


def test_csv_gives_the_same_as_parquet(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    main([*files, "--time", "time", "--json", "-"])
    first = json.loads(capsys.readouterr().out)
    texts = [tmp_path / "before.csv", tmp_path / "now.csv"]
    for source, target in zip((files[2], files[4]), texts, strict=True):
        pd.read_parquet(source).to_csv(target, index=False)

    main(
        [
            "backtest",
            "--reference",
            str(texts[0]),
            "--stream",
            str(texts[1]),
            "--time",
            "time",
            "--json",
            "-",
        ]
    )

    assert json.loads(capsys.readouterr().out)["alarms"] == first["alarms"]


def test_many_changes_are_cut_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rng = np.random.default_rng(0)
    before = {f"x{i}": rng.normal(size=2_000) for i in range(25)}
    now = {f"x{i}": rng.normal(size=13_000) for i in range(25)}
    for i in range(25):
        now[f"x{i}"][500 * i + 500 : 500 * i + 700] += 3.0

    assert main([*write(tmp_path, before, now), "--budget", "1 per 100000 rows"]) == 0

    printed = capsys.readouterr().out
    assert "and 5 more" in printed
    listed = printed[printed.index("change  row") : printed.index("and 5 more")]
    assert len(listed.splitlines()) == 1 + 20


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--budget", "sometimes"], "error: --budget: 'sometimes'; expected so many alarms"),
        (
            ["--season", "hour"],
            "error: --season: 'hour' and no times; expected the column of times in --time",
        ),
        (["--seed", "-3"], "error: --seed: -3; expected a whole number, 0 or more"),
        (["--time", "clock"], "error: --time: no column 'clock' in the reference"),
        (
            ["--label", "fuel", "--score", "load"],
            "other labels go with --prediction and no --score",
        ),
    ],
)
def test_errors_name_the_option(
    files: list[str], extra: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert message in refused([*files, *extra], capsys)


def test_a_file_that_is_none_is_refused(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "broken.parquet").write_text("nothing of the sort")
    (tmp_path / "table.xlsx").write_text("")

    for name, message in (
        ("absent.parquet", "error: --stream: no file"),
        ("broken.parquet", "error: --stream: .* cannot be read"),
        ("table.xlsx", "of type '.xlsx'; expected a .parquet or .csv file"),
    ):
        printed = refused([*files[:4], str(tmp_path / name)], capsys)
        assert all(part in printed for part in message.split(".*"))


def test_a_page_that_cannot_be_written_is_refused(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main([*files, "--json", str(tmp_path / "no" / "found.json")]) == 2
    assert "error: --json:" in capsys.readouterr().err


def test_a_missing_argument_has_the_exit_code_of_a_refusal():
    with pytest.raises(SystemExit) as left:
        main(["backtest"])

    assert left.value.code == 2


def test_a_budget_beyond_the_reference_is_refused_unless_only_a_report_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = [*write(tmp_path, labelled(2_000, 1), labelled(3_000, 2, 1_500)), "--block", "day"]

    printed = refused(arguments, capsys)
    assert "error: --reference: 2000 rows, budget not certifiable" in printed
    assert "at least 100000 rows, a budget of 1 per 2000 rows, or --report-only" in printed

    assert main([*arguments, "--report-only", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["alarms"]
    assert not any(alarm["certified"] for alarm in found["alarms"])


def test_progress_is_shown_in_a_terminal_only(
    files: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    main(files)
    assert capsys.readouterr().err == ""

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    main(files)
    assert capsys.readouterr().err.endswith("100 % of 3,000 rows\n")
