"""`ciclo apply`: what can be known to be wrong is told before anything is applied."""

import textwrap
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ciclo.cli import app
from ciclo.cli.init import init
from ciclo.cli.loops import definition
from ciclo.errors import CicloError, Retry
from ciclo.features.v1.feature_service_pb2 import CheckLoopResponse
from ciclo.loop import InvalidLoop
from ciclo.loop_code import code_problems
from ciclo.registry.v1.registry_service_pb2 import ApplyLoopResponse

FEATURES = b"from feast import Entity"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    init(tmp_path / "churn")
    return tmp_path / "churn"


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_a_syntax_error_is_told_with_its_line(folder):
    text = (folder / "features.py").read_text()
    (folder / "features.py").write_text(f"{text}\nx = = 1\n")
    line = text.count("\n") + 2
    with pytest.raises(InvalidLoop, match=rf"features.py, line {line}: invalid syntax"):
        definition(folder)


def test_a_class_that_the_recipe_lacks_is_told_with_those_it_has(folder):
    edit(folder / "loop.yaml", "recipe.py:Cancellation", "recipe.py:Nope")
    with pytest.raises(InvalidLoop, match=r"recipe.py holds no Nope.*classes: Cancellation"):
        definition(folder)


@pytest.mark.parametrize("file", ["features.py", "recipe.py"])
def test_a_file_that_is_missing_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(InvalidLoop, match=f"{file} is missing"):
        definition(folder)


def test_what_is_wrong_in_each_file_is_told_at_once(folder):
    edit(folder / "loop.yaml", "holdout: 5d", "holdout: 50d")
    edit(folder / "loop.yaml", "id: renewal", "id: renewall")
    (folder / "features.py").write_text("def f(:\n")
    with pytest.raises(InvalidLoop) as caught:
        definition(folder)
    for told in ("input.id", "retrain.data.holdout", "features.py, line 1", "nothing was applied"):
        assert told in str(caught.value)


def test_nothing_is_asked_of_the_system_before_the_folder_is_right(folder, tmp_path):
    (folder / "recipe.py").write_text("class Cancellation\n")
    result = CliRunner().invoke(app, ["apply", str(folder), "--state", str(tmp_path / "none")])
    assert isinstance(result.exception, InvalidLoop), "not: that no system runs"


def test_no_code_of_the_loop_is_run(folder):
    with (folder / "recipe.py").open("a") as recipe:
        recipe.write("\nraise SystemExit('run')\n")
    assert "recipe.py" in definition(folder)


@pytest.mark.parametrize(
    "recipe",
    [
        "class Churn: ...",
        "from shared import Churn",
        "from shared import Base as Churn",
        "from shared import *",
        "Churn = make()",
        """
        try:
            import torch
        except ImportError:
            Churn = None
        else:
            class Churn: ...
        """,
    ],
)
def test_a_recipe_may_come_by_its_name_in_any_way(recipe):
    files = {"features.py": FEATURES, "recipe.py": textwrap.dedent(recipe).encode()}
    assert code_problems(files, "recipe.py:Churn") == []


@pytest.mark.parametrize("recipe", ["", "class Other: Churn = 1", "def f():\n    class Churn: ..."])
def test_a_name_that_the_module_does_not_bind_is_no_recipe(recipe):
    files = {"features.py": FEATURES, "recipe.py": recipe.encode()}
    assert [p for p in code_problems(files, "recipe.py:Churn") if "holds no Churn" in p]


def test_a_recipe_is_found_however_its_path_is_written():
    files = {"features.py": FEATURES, "net/recipe.py": b"class Churn: ..."}
    assert code_problems(files, "./net/recipe.py:Churn") == []
    assert code_problems(files, "../recipe.py:Churn") == [
        "../recipe.py is missing, which loop.yaml names as recipe"
    ]


@pytest.mark.parametrize("content", [b"\x00", b"\xff = 1", b"# coding: klingon"])
def test_what_is_no_text_is_a_problem_like_any_other(content):
    (problem,) = code_problems({"features.py": content})
    assert problem.startswith("features.py")


def test_a_definition_is_applied_once_the_feature_store_can_use_it(folder, system):
    system.answers = {"CheckLoop": CheckLoopResponse(), "ApplyLoop": ApplyLoopResponse()}
    assert system.ciclo("apply", str(folder)).exit_code == 0
    assert dict(system.asked["CheckLoop"].files) == definition(folder)
    assert list(system.asked) == ["CheckLoop", "ApplyLoop"]


@pytest.mark.parametrize("kind", [CicloError, Retry])
def test_what_the_feature_store_cannot_use_is_not_applied(folder, system, kind):
    system.answers = {"CheckLoop": kind("feature-store: takes 'chrun'")}
    failed = system.ciclo("apply", str(folder)).exception
    assert isinstance(failed, kind)
    assert failed.message.startswith("feature-store: takes 'chrun'\nnothing was applied")
    assert "ApplyLoop" not in system.asked
