"""The commands that the guides print: they exist, and follow from one another."""

import re
import shlex
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ciclo.cli import COMMANDS, app
from ciclo.cli.event_time import parse_event_time
from ciclo.cli.init import init
from ciclo.cli.predict import _parsed
from ciclo.loop import read_loop

GUIDES = sorted((Path(__file__).parents[3] / "docs" / "guides").glob("*.md"))


def commands(guide: Path) -> list[list[str]]:
    """Returns the command lines of a guide's blocks, as a shell would split them."""
    blocks = re.findall(r"```(?:console|sh)\n(.*?)```", guide.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line.removeprefix("$ "), comments=True) for line in lines if line]


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_every_command_has_the_options_that_a_guide_gives_it(guide):
    ours = [words for words in commands(guide) if words[0] == "ciclo"]
    for words in ours:
        assert words[1] in COMMANDS
        text = CliRunner().invoke(app, [words[1], "--help"], env={"COLUMNS": "200"}).output
        assert all(word in text for word in words if word.startswith("--")), words
    assert ours


def test_the_label_that_an_outside_program_reports_is_about_a_row_that_was_asked(tmp_path):
    predict, report = commands(next(path for path in GUIDES if path.stem == "outside-programs"))
    init(tmp_path / "churn")
    loop = read_loop(tmp_path / "churn")
    (row,) = _parsed(predict[3])
    asked = parse_event_time(option(predict, "--event-time"), "").ToDatetime()
    known = parse_event_time(option(report, "--known"), "").ToDatetime()

    assert predict[2] == option(report, "--model") == loop.model
    assert row.keys() == {*loop.entities, *loop.input.request}
    assert row[loop.input.id] == option(report, "--row-key")
    assert timedelta(0) < known - asked <= loop.label.expected_within
