"""Event times of commands: how they are written, and what holds where none is given."""

import pytest

from ciclo.cli.event_time import parse_event_time
from ciclo.errors import NotFound, Reject, Retry
from ciclo.monitoring.v1.monitoring_service_pb2 import GetModelHealthResponse
from ciclo.serving.v1.prediction_service_pb2 import PredictResponse
from ciclo.training.v1 import training_service_pb2 as training

WRONG = ["yesterday", "2024-13-01", "01.03.2024", "1709251200", "2024-03-01T25:00:00Z", " "]
ROW = '{"user": "u1"}'


@pytest.fixture
def asked(system):
    """The system, with a model whose clock stands in January 2024."""
    health = GetModelHealthResponse()
    health.state.watermark_time.FromJsonString("2024-01-09T23:00:00Z")
    ended = training.GetRunResponse()
    ended.run.state = training.RUN_STATE_SUCCEEDED
    system.answers = {
        "GetModelHealth": health,
        "Predict": PredictResponse(prediction_id="p", version=1, variant="champion"),
        "StartTraining": training.StartTrainingResponse(run_id="r"),
        "GetRun": ended,
    }
    return system


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("2024-03-01", "2024-03-01T00:00:00Z"),
        ("2024-03-01T12:00:00Z", "2024-03-01T12:00:00Z"),
        ("2024-03-01T12:00", "2024-03-01T12:00:00Z"),
        ("2024-03-01T12:00:00+02:00", "2024-03-01T10:00:00Z"),
        ("2024-03-01 12:00:00.250Z", "2024-03-01T12:00:00.250Z"),
    ],
)
def test_dates_and_times_are_read_alike_by_predict_and_train(asked, text, means):
    assert asked.ciclo("predict", "churn", ROW, "--event-time", text).exit_code == 0
    assert asked.ciclo("train", "churn", "--as-of", text).exit_code == 0
    assert asked.asked["Predict"].event_time.ToJsonString() == means
    assert asked.asked["StartTraining"].as_of_time.ToJsonString() == means


@pytest.mark.parametrize("text", [*WRONG, "0001-01-01T00:00+05:00"])
def test_what_is_no_time_is_refused_with_what_was_expected(text):
    with pytest.raises(Reject, match=r"--as-of is .*such as 2024-03-01 or 2024-03-01T12:00:00Z"):
        parse_event_time(text, "--as-of")


@pytest.mark.parametrize(
    "command", [("predict", "churn", ROW, "--event-time"), ("train", "churn", "--as-of")]
)
def test_a_command_asks_nothing_at_a_time_that_is_none(asked, command):
    assert isinstance(asked.ciclo(*command, "yesterday").exception, Reject)
    assert asked.asked == {}


def test_a_prediction_is_asked_as_of_the_models_clock(asked):
    said = asked.ciclo("predict", "churn", ROW).output
    assert asked.asked["Predict"].event_time.ToJsonString() == "2024-01-09T23:00:00Z"
    assert "asked as of 2024-01-09T23:00:00Z" in said


@pytest.mark.parametrize("health", [GetModelHealthResponse(), NotFound("no model churn")])
def test_a_model_without_a_clock_is_asked_as_of_now(asked, health):
    asked.answers["GetModelHealth"] = health
    said = asked.ciclo("predict", "churn", ROW).output
    assert not asked.asked["Predict"].HasField("event_time")
    assert "asked as of now" in said


def test_a_clock_that_is_not_known_is_never_guessed(asked):
    asked.answers["GetModelHealth"] = Retry("monitor does not answer")
    failed = asked.ciclo("predict", "churn", ROW).exception
    assert isinstance(failed, Retry)
    assert "monitor does not answer" in failed.message
    assert "--event-time" in failed.message
    assert "Predict" not in asked.asked


def test_an_event_time_that_is_given_needs_no_monitor(asked):
    asked.answers["GetModelHealth"] = Retry("monitor does not answer")
    assert asked.ciclo("predict", "churn", ROW, "--event-time", "2024-02-01").exit_code == 0
