import json
import logging
from typing import Any

import pytest
import structlog
from tests.unit.runtime.conftest import envelope

from ciclo_runtime import log


@pytest.fixture(autouse=True)
def restored() -> object:
    yield
    structlog.reset_defaults()
    logging.basicConfig(force=True)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_is_json_and_carries_the_event_it_is_about(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.configure("info", "json")
    with log.about(envelope("e1", "cycle-7")):
        structlog.get_logger("a").info("model_promoted", version="3")
    logging.getLogger("some.library").warning("it said %s", "so")

    ours, theirs = lines(capsys)

    assert ours["event"] == "model_promoted"
    assert (ours["event_id"], ours["correlation_id"], ours["version"]) == ("e1", "cycle-7", "3")
    assert (theirs["event"], theirs["level"]) == ("it said so", "warning")
    assert "event_id" not in theirs


def test_a_traceback_shows_no_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "json")
    try:
        passenger = "a person's name"
        raise KeyError(len(passenger))
    except KeyError:
        structlog.get_logger("a").exception("failed")

    (line,) = lines(capsys)

    assert line["exception"][0]["exc_type"] == "KeyError"
    assert "a person's name" not in json.dumps(line)


def test_lines_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("warning", "json")
    structlog.get_logger("a").info("quiet")

    assert lines(capsys) == []


def test_a_library_that_repeats_itself_is_heard_once(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "json")
    for node in range(50):
        logging.getLogger("aiokafka.conn").error("Unable connect to node %s", node)
        structlog.get_logger("a").info("ours")

    events = [line["event"] for line in lines(capsys)]

    assert events.count("Unable connect to node 0") == 1
    assert events.count("ours") == 50
    assert len(events) == 51
