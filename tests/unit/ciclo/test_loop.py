"""loop.yaml: what it accepts, and how it says what is wrong."""

from datetime import timedelta

import pytest
import yaml

from ciclo.loop import InvalidLoop, parse_loop, read_loop

MINIMAL = {
    "schema": "ciclo.loop/v1",
    "model": "churn",
    "owner": "growth",
    "recipe": "recipe.py:Churn",
    "features": "churn",
    "input": {"entities": ["user"], "request": {"plan": "string", "age": "float32"}},
    "output": {"name": "leaves"},
    "label": {"name": "left", "expected_within": "12h", "never_after": "3d"},
    "quality": {"metric": "log_loss", "correlated_within": "1d"},
    "monitor": {
        "false_alarms": {"at_most": 1, "per": "365d"},
        "degraded_if": {"log_loss": {"above_reference_by": 0.03}},
    },
    "retrain": {"data": {"last": "90d", "holdout": "10d"}},
    "rollout": {
        "shadow": {"at_most": "35d"},
        "canary": {"weights": [0.05, 0.25], "each": "5d", "exposure_at_most": 1500},
        "bake": {"for": "7d"},
    },
}


def changed(path: str, value: object) -> str:
    content = yaml.safe_load(yaml.safe_dump(MINIMAL))
    *parents, last = path.split(".")
    part = content
    for name in parents:
        part = part[name]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return yaml.safe_dump(content)


def test_a_minimal_loop_has_sane_defaults():
    loop = parse_loop(yaml.safe_dump(MINIMAL))
    assert loop.mode == "act"
    assert loop.entities == {"user": "string"}
    assert loop.label.expected_within == timedelta(hours=12)
    assert str(loop.monitor.false_alarms) == "1 per 365d"
    assert loop.retrain.limits.most_runs == 4
    assert loop.retrain.limits.per_time == timedelta(days=30)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("retrain.data.last", "90x", "such as 90d"),
        ("model", "Flight Delay", "model"),
        ("owner", None, "owner: Field required"),
        ("input.id", "order", "input.request does not declare"),
        ("label.never_after", "1h", "before label.expected_within"),
        ("rollout.canary.weights", [0.5, 0.2], "must grow"),
        ("rollout.canary.weights", [0.5, 1.0], "between 0 and 1"),
        ("rollout.canary.weights", [0.5, 1.5], "less than or equal to 1"),
        ("privacy", {"never_store": ["plan"]}, "privacy.never_store names inputs"),
        ("input.request", {"user": "string"}, "input.request: declares user"),
        ("input.request", {"_age": "float32"}, "begin with an underscore"),
        ("input.entities", ["label"], "none of block, event_time_us, label"),
        ("retrain.data", {"last": "2d", "holdout": "5d"}, "must be shorter than retrain.data.last"),
        ("retrain.data", {"last": "5d", "holdout": "5d"}, "must be shorter than retrain.data.last"),
        ("retrain.data.holdout", "0d", "retrain.data.holdout: Input should be greater"),
        ("quality.correlated_within", "0d", "quality.correlated_within"),
        ("colour", "red", "colour: Extra inputs are not permitted"),
        ("retrain.limits", {"memory": "lots"}, "such as 2GiB"),
        ("monitor.degraded_if.log_loss.above_reference_by", float("nan"), "above_reference_by"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(path, value, says):
    with pytest.raises(InvalidLoop, match=says.replace("(", r"\(")):
        parse_loop(changed(path, value))


def test_all_problems_are_listed_at_once():
    content = {**MINIMAL, "mode": "sometimes", "approvals": 2, "extra": 1}
    with pytest.raises(InvalidLoop, match="3 problem") as caught:
        parse_loop(yaml.safe_dump(content))
    assert all(word in str(caught.value) for word in ("mode", "approvals", "extra"))


def test_what_two_fields_contradict_is_listed_with_all_other_problems():
    content = {
        **MINIMAL,
        "mode": "sometimes",
        "input": {**MINIMAL["input"], "id": "renewall", "colour": "red"},
        "label": {"expected_within": "3d", "never_after": "1d"},
        "retrain": {"data": {"last": "2d", "holdout": "5d"}, "when": {"any": ["rain"]}},
        "rollout": {
            "shadow": {"at_most": "soon"},
            "canary": {"weights": [0.5, 0.1], "each": "5d"},
            "bake": {},
        },
    }
    with pytest.raises(InvalidLoop) as caught:
        parse_loop(yaml.safe_dump(content))
    places = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]]
    assert places == [
        "mode",
        "input.id",
        "input.colour",
        "label.name",
        "label.never_after",
        "retrain.when.any.0",
        "retrain.data.holdout",
        "rollout.shadow.at_most",
        "rollout.canary.weights",
        "rollout.canary.exposure_at_most",
        "rollout.bake.for",
    ]


@pytest.mark.parametrize("text", ["", "- a\n- b", "just words", "a: [", "\tx: 1"])
def test_what_is_no_mapping_is_refused(text):
    with pytest.raises(InvalidLoop):
        parse_loop(text)


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(InvalidLoop, match="ciclo init"):
        read_loop(tmp_path)
