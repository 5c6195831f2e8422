"""Torch and ONNX give one answer for every input, and the check of it can fail."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ciclo.recipe import Batch
from ciclo_bundle.runtime import GraphScorer
from ciclo_trainer.training import NotFinite, ParityFailed, Request
from ciclo_trainer.training.export import Served, export_graph
from ciclo_trainer.training.parity import VECTOR_ROWS, check_parity, craft_columns
from ciclo_trainer.training.recipes import build_network, load_recipe
from ciclo_trainer.training.snapshot import read_rows, split_rows
from ciclo_trainer.training.spec import FittedSpec

floats = st.floats(width=32) | st.just(float("nan"))
categories = st.sampled_from(["EWR", "JFK", "LGA", "", "D3", "RARE"]) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8
)
rows_of_inputs = st.lists(
    st.fixed_dictionaries(
        {
            "flight": categories,
            "origin": categories,
            "dest": categories,
            "departure": st.integers(-(2**62), 2**62),
            "seats": st.integers(-(2**62), 2**62),
            "temp": floats,
            "wind": floats,
        }
    ),
    min_size=1,
    max_size=7,
)


@pytest.fixture(scope="module")
def exported(
    request_of: Callable[..., Request], tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    request = request_of()
    train = split_rows(read_rows(request.dataset, request.inputs, (), request.block_us), 6).train
    spec = FittedSpec(request.inputs, train.columns)
    recipe = load_recipe(request.recipe)
    torch.manual_seed(1)
    x = spec.encode({name: column[:8] for name, column in train.columns.items()})
    net = build_network(recipe, spec, Batch(x, torch.from_numpy(train.label[:8])))
    net.eval()
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    path.write_bytes(export_graph(recipe, net, spec, request.signature, x))
    return SimpleNamespace(
        recipe=recipe,
        net=net,
        spec=spec,
        path=path,
        scorer=GraphScorer(path, request.signature),
        signature=request.signature,
        vector=craft_columns(spec, request.signature, train, seed=1),
    )


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=rows_of_inputs)
def test_torch_and_onnx_agree_on_every_input_and_stay_finite(
    exported: SimpleNamespace, rows: list[dict]
) -> None:
    kinds = {"departure": np.int64, "seats": np.int64, "temp": np.float32, "wind": np.float32}
    columns = {
        name: np.array([row[name] for row in rows], dtype=kinds.get(name, object))
        for name in rows[0]
    }
    fields = exported.spec.fields
    x = exported.spec.encode(columns)

    served = Served(exported.recipe, exported.net, fields, ["late"])
    with torch.no_grad():
        (expected,) = served(*(x[field.name].reshape(-1, 1) for field in fields))
    answer = exported.scorer.score(columns)["late"]

    assert np.isfinite(answer).all()
    np.testing.assert_allclose(answer, expected.numpy()[:, 0], rtol=0, atol=1e-5)


def test_the_graph_takes_the_business_key_and_does_not_look_at_it(
    exported: SimpleNamespace,
) -> None:
    anonymous = {name: c for name, c in exported.vector.items() if name != "flight"}

    one, other = (exported.scorer.score(c)["late"] for c in (exported.vector, anonymous))

    assert "flight" in {node.name for node in onnx.load(exported.path).graph.input}
    np.testing.assert_array_equal(one, other)


def test_the_same_network_gives_the_same_file(exported: SimpleNamespace) -> None:
    x = exported.spec.encode({name: c[:8] for name, c in exported.vector.items()})

    files = {
        export_graph(exported.recipe, exported.net, exported.spec, exported.signature, x)
        for _ in range(2)
    }

    assert files == {exported.path.read_bytes()}


def test_made_up_rows_hold_what_is_odd_and_what_is_known(exported: SimpleNamespace) -> None:
    vector = exported.vector

    assert all(len(column) == VECTOR_ROWS for column in vector.values())
    assert set(exported.spec.vocabulary("dest")) <= set(vector["dest"])
    assert not set(vector["dest"]) <= {"", *exported.spec.vocabulary("dest")}
    assert np.isnan(vector["temp"]).any()
    assert np.abs(vector["temp"][np.isfinite(vector["temp"])]).max() > 1e38
    assert vector["flight"][0] == "row-0"


@pytest.mark.parametrize("damage", ["vocabulary", "weight"])
def test_a_graph_that_answers_otherwise_is_refused(
    exported: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory, damage: str
) -> None:
    model = onnx.load(exported.path)
    if damage == "vocabulary":
        encoder = next(n for n in model.graph.node if n.op_type == "LabelEncoder")
        keys = next(a for a in encoder.attribute if a.name == "keys_strings")
        keys.strings[:] = [key + b"?" for key in keys.strings]
    else:
        weight = next(t for t in model.graph.initializer if t.name == "net.body.0.weight")
        weight.raw_data = bytes(len(weight.raw_data))
    path = tmp_path_factory.mktemp("damaged") / "model.onnx"
    onnx.save(model, path)
    scorer = GraphScorer(path, exported.signature)

    with pytest.raises(ParityFailed) as error:
        check_parity(exported.recipe, exported.net, exported.spec, scorer, exported.vector)

    assert error.value.metadata == {"output": "late"}


def test_a_network_that_is_not_finite_on_made_up_rows_is_refused(exported: SimpleNamespace) -> None:
    recipe = SimpleNamespace(output=lambda logit: {"late": logit[:, 0] * float("nan")})

    with pytest.raises(NotFinite, match="late"):
        check_parity(recipe, exported.net, exported.spec, exported.scorer, exported.vector)
