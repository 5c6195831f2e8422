"""A run of forty requests, found again: and what is said wrongly of it is noticed."""

import copy
import hashlib
import json
import math
from contextlib import closing

import duckdb
import onnx
import pytest
from consumer import Topics
from onnx import TensorProto, helper
from recompute import Figure, recompute

from ciclo.events.v1.rollout_judged_pb2 import VERDICT_WORSE, RolloutJudged

REQUESTS, ROWS = 40, 20
"""By turns of version 1, by entity, and of version 2, by tensor; half the rows get a label."""


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    """A blob store with the bundle of a network that halves its input."""
    folder = tmp_path_factory.mktemp("blobs")
    shape = ["n", 1]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "half"], ["late"])],
        "half",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("late", TensorProto.FLOAT, shape)],
        [helper.make_tensor("half", TensorProto.FLOAT, [], [0.5])],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    onnx.checker.check_model(model)
    listing = [{"path": "model.onnx", "sha256": put(folder, model.SerializeToString())}]
    put(folder, json.dumps(listing).encode())
    return folder


def put(folder, content):
    name = hashlib.sha256(content).hexdigest()
    (folder / name[:2]).mkdir(exist_ok=True)
    (folder / name[:2] / name).write_bytes(content)
    return f"sha256:{name}"


@pytest.fixture(scope="module")
def digest(blobs):
    return next(f"sha256:{p.name}" for p in blobs.glob("*/*") if p.read_bytes().startswith(b"[{"))


@pytest.fixture
def tables(digest):
    with closing(duckdb.connect()) as found:
        found.execute("set timezone = 'UTC'")
        found.execute(f"""
            create table predictions as select
                'p' || request as prediction_id,
                case request % 2 when 1 then 'c' || request else '' end as client_id,
                1 + request % 2 as version, 'served' as purpose, 0 as status_code,
                timestamptz '2013-06-01 12:00+00' + interval 1 day * (request // 20) as event_time,
                '{digest}' as bundle_digest, request || '-' || line as row_key,
                (0.2 + line / 25)::float as x, (0.1 + line / 50)::float as late
            from range({REQUESTS}) r(request), range({ROWS}) l(line)""")
        found.execute("""
            create table labels as select row_key, (x > 0.5)::int::double as value,
                event_time + interval 2 hour as event_time, 0 as _offset, 0 as _index
            from predictions where x < 0.59""")
        yield found


@pytest.fixture
def callers():
    return {f"{'pc'[request % 2]}{request}": ROWS for request in range(REQUESTS)}


@pytest.fixture
def topics(tables, digest):
    found = Topics(registered={1: digest, 2: digest})
    found.ids.update({f"p{n}": 1 for n in range(REQUESTS)})
    found.ids.update({f"c{n}": 1 for n in range(1, REQUESTS, 2)})
    found.rows.update({"1": 400, "2": 400})
    found.requests.update({"1": 20, "2": 20})
    found.labels.update(row[0] for row in tables.sql("select row_key from labels").fetchall())
    judged = RolloutJudged(rollout_id="r", verdict=VERDICT_WORSE, blocks=7, rows=60, mean_gain=-0.2)
    judged.limited_gain, judged.gain_low, judged.gain_high = -0.19, -0.3, -0.1
    found.judged["j"] = judged
    found.events["registry", 3] = ("b", "RolloutRolledBack", "j")
    return found


@pytest.fixture
def said(digest):
    loss = -sum(
        math.log(p if 0.2 + n / 25 > 0.5 else 1 - p)
        for n, p in ((n, 0.1 + n / 50) for n in range(10))
    )
    return {
        "rows_answered": 800,
        "ids": {"callers": 40, "kafka": 40, "delta": 40},
        "ids_lost": 0,
        "labels_due": 400,
        "labels_joined": 400,
        "never_labelled": 400,
        "rows_by_version": {"1": 400, "2": 400},
        "requests_by_version": {"1": 20, "2": 20},
        "rows_by_bad": 400,
        "versions": [{"version": n, "bundle_digest": digest} for n in (1, 2)],
        "loss_by_day": [
            {"day": day, "version": n, "served": True, "rows": 100, "loss": loss / 10}
            for day in ("2013-06-01", "2013-06-02")
            for n in (1, 2)
        ],
        "rollouts": [
            {"rollout_id": "r", "version": 2, "stage": "rolled_back", "days": 7, "rows": 60,
             "verdict": "worse", "mean_gain": -0.2, "limited_gain": -0.19,
             "gain_low": -0.3, "gain_high": -0.1}
        ],
        "events": [
            {"id": "b", "type": "RolloutRolledBack", "cause": "j", "topic": "registry",
             "offset": 3, "message": {"rollout_id": "r"}}
        ],
    }  # fmt: skip


def differing(*found):
    return {figure.name for figure in recompute(*found) if not figure.agrees}


def test_what_is_said_rightly_agrees(said, callers, topics, tables, blobs):
    figures = list(recompute(said, callers, topics, tables, blobs))

    assert [figure for figure in figures if not figure.agrees] == []
    assert next(f for f in figures if f.name == "answers asked again").found > 0


def test_a_difference_of_many_days_names_only_those_that_differ():
    assert str(Figure("days", {1, 2, 3}, {2, 3, 4})) == "days: said {1}, found {4}"


def leaves(value, *path):
    if isinstance(value, dict | list):
        inside = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in inside:
            yield from leaves(part, *path, key)
    else:
        yield path


def test_each_figure_that_is_said_wrongly_is_noticed(said, callers, topics, tables, blobs):
    paths = list(leaves(said))
    assert len(paths) > 40
    for path in paths:
        wrong = copy.deepcopy(said)
        place = wrong
        for key in path[:-1]:
            place = place[key]
        old = place[path[-1]]
        place[path[-1]] = f"{old}x" if isinstance(old, str) else old + 1e-4
        if path[-1] == "bundle_digest":
            place[path[-1]] = "sha256:" + "0" * 64
        if path[-1] == "served":
            place[path[-1]] = False
        assert differing(wrong, callers, topics, tables, blobs), path


@pytest.mark.parametrize(
    ("fault", "noticed"),
    [
        ("insert into predictions from predictions where prediction_id = 'p3'", "ids.delta, with"),
        ("delete from predictions where row_key = '4-1'", "rows_answered in Delta"),
        ("delete from labels where row_key = '4-1'", "labels_joined"),
        ("update labels set value = 1 - value where row_key = '4-1'", "loss_by_day"),
        ("update predictions set late = late + 2e-5", "answers of version 2"),
        ("update predictions set x = x + 1e-3", "answers of version 2"),
        ("update predictions set version = 2 where prediction_id = 'p4'", "rows_by_version in De"),
        ("update predictions set bundle_digest = 'another'", "answers asked again"),
    ],
)
def test_a_fault_in_the_tables_is_noticed(fault, noticed, said, callers, topics, tables, blobs):
    tables.execute(fault)

    found = differing(said, callers, topics, tables, blobs)

    assert any(name.startswith(noticed) for name in found), found


def test_an_answer_that_the_topic_tells_twice_or_not_at_all_is_noticed(
    said, callers, topics, tables, blobs
):
    topics.ids["p4"] = 2
    del topics.ids["p6"]

    assert differing(said, callers, topics, tables, blobs) == {
        "ids.kafka",
        "ids.kafka, each once",
        "ids_lost",
    }


def test_a_rollout_that_goes_on_stands_at_its_last_judgement(said, callers, topics, tables, blobs):
    said["rollouts"][0]["stage"], said["rows_by_bad"] = "shadow", 0
    said["events"], topics.events = [], {}

    assert differing(said, callers, topics, tables, blobs) == set()
    said["rollouts"][0]["days"] = 8
    assert differing(said, callers, topics, tables, blobs) == {"rollout r: days"}


def test_a_bundle_that_was_changed_is_no_evidence(said, callers, topics, tables, blobs, tmp_path):
    said["versions"][0]["bundle_digest"] = said["versions"][1]["bundle_digest"]
    name = said["versions"][0]["bundle_digest"].removeprefix("sha256:")
    (tmp_path / name[:2]).mkdir()
    (tmp_path / name[:2] / name).write_bytes(b"[]")

    with pytest.raises(OSError, match="is not what its name says"):
        list(recompute(said, callers, topics, tables, tmp_path))
