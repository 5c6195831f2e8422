"""`ciclo init`: a loop that can be applied as it is, and nothing of anyone's overwritten."""

import ast
import importlib.util
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ciclo.cli import app
from ciclo.cli.init import FILES, init
from ciclo.cli.loops import definition
from ciclo.errors import Conflict, Reject
from ciclo.loop import Loop, read_loop


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    init(tmp_path / "shop-churn")
    return tmp_path / "shop-churn"


@pytest.fixture
def loop(folder: Path) -> Loop:
    return read_loop(folder)


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    folder = tmp_path_factory.mktemp("played") / "mine"
    init(folder)
    spec = importlib.util.spec_from_file_location("played_loop", folder / "play.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_what_is_written_can_be_applied_as_it_is(folder):
    assert set(definition(folder)) == set(FILES)


def test_the_model_is_named_after_the_folder(loop):
    assert loop.model == loop.features == "shop-churn"


def test_another_name_of_the_model_is_put_into_every_file(tmp_path):
    init(tmp_path / "x", model="late-parcels")
    texts = {path.name: path.read_text() for path in (tmp_path / "x").iterdir()}
    assert all("late-parcels" in text for text in texts.values())
    assert not [name for name, text in texts.items() if "churn" in text]


def test_the_readme_names_the_folder_as_it_was_given(folder):
    assert f"ciclo apply {folder}" in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", ["", "Shop", "9lives", "a_b", "a b", "x" * 64, "../up"])
def test_a_name_that_no_model_can_have_is_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(Reject, match="no name of a model"):
        init(tmp_path / "F O L D E R", model=name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_is_left_as_it_is(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(Conflict, match=r"not empty \(it holds notes.txt\)"):
        init(tmp_path, model="churn")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "churn").write_text("mine")
    with pytest.raises(Conflict, match="is a file"):
        init(tmp_path / "churn")
    assert (tmp_path / "churn").read_text() == "mine"


def test_an_empty_folder_is_taken(tmp_path):
    init(tmp_path, model="churn")
    assert read_loop(tmp_path).model == "churn"


def test_json_lists_the_files_that_were_written(tmp_path):
    result = CliRunner().invoke(app, ["init", str(tmp_path / "churn"), "--json"])
    assert result.exit_code == 0
    answer = json.loads(result.output)
    assert answer["model"] == "churn"
    assert all(Path(file).is_file() for file in answer["files"])
    assert len(answer["files"]) == len(FILES)


def test_an_error_is_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    command = [sys.executable, "-m", "ciclo.cli", "init", str(tmp_path), "--model", "churn"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stderr.count("\n")) == (1, 1)
    assert run.stderr.startswith(f"ciclo: {tmp_path} is not empty")


def test_every_part_of_the_loop_has_a_comment(folder):
    text = (folder / "loop.yaml").read_text()
    parts = [part for part in text.split("\n\n") if part.strip()]
    assert len(parts) == 5
    assert all(part.count("#") >= 3 for part in parts)


def test_the_loop_declares_what_its_world_sends(loop, play):
    asked = play.renewals(5).columns
    assert set(asked) == {*loop.input.entities, *loop.input.request}
    assert loop.knowledge_lag == timedelta(hours=play.LAG_HOURS)
    assert timedelta(hours=play.SLOWEST_LABEL_HOURS) <= loop.label.expected_within
    assert set(loop.input.fallback) == {play.VIEW}


def test_features_py_declares_what_the_world_sends(folder, play):
    calls = [n for n in ast.walk(ast.parse((folder / "features.py").read_text())) if _is_field(n)]
    declared = {k.value.value for call in calls for k in call.keywords if k.arg == "name"}
    assert declared == set(play.activity(0))


def test_the_same_hour_holds_the_same_in_every_run(play):
    before = play.renewals(100)
    play.renewals.cache_clear()
    play.activity.cache_clear()
    again = play.renewals(100)
    assert again is not before
    assert again.columns["customer"] == before.columns["customer"]
    np.testing.assert_array_equal(again.cancelled, before.cancelled)


def test_no_renewal_is_asked_twice_and_no_label_comes_before_its_request(play):
    asked = [play.renewals(hour) for hour in range(-48, 48)]
    keys = [key for renewals in asked for key in renewals.columns["renewal"]]
    assert len(set(keys)) == len(keys)
    assert all((renewals.known_hour > renewals.hour).all() for renewals in asked)


def test_the_customers_change_when_the_world_says_so(play):
    def share_of_frequent_who_cancel(days):
        frequent, cancelled = [], []
        for hour in (24 * day + h for day in days for h in range(24)):
            renewals = play.renewals(hour)
            visits = play.activity(hour // 24 - 1)["visits"]
            who = [int(name[1:]) for name in renewals.columns["customer"]]
            frequent.append(visits[who] > 8)
            cancelled.append(renewals.cancelled)
        return np.concatenate(cancelled)[np.concatenate(frequent)].mean()

    before = share_of_frequent_who_cancel(range(play.CHANGE_DAY - 5, play.CHANGE_DAY))
    after = share_of_frequent_who_cancel(range(play.CHANGE_DAY, play.CHANGE_DAY + 5))
    assert after > 2 * before


def _is_field(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Field"
    )
