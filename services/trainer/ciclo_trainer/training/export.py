"""Writes the graph that serves: from raw columns, strings among them, to outputs."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Final, cast

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from ciclo_trainer.training.recipes import recipe_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ciclo.recipe import Recipe
    from ciclo_bundle import Field, Signature
    from ciclo_trainer.training.spec import FittedSpec
    from ciclo_trainer.training.tabular import Columns

OPSET: Final = 17
"""Version of ONNX's operators: one that servers with an older ONNX Runtime know."""

IR_VERSION: Final = 9
"""Version of the file format: servers run an older ONNX Runtime than the trainer."""

ELEMENTS: Final = {
    "BYTES": TensorProto.STRING,
    "FP32": TensorProto.FLOAT,
    "INT64": TensorProto.INT64,
}
"""ONNX's element types by the datatypes of the Open Inference Protocol."""

CODES: Final = ".codes"
"""What is added to a string input's name for the codes behind it."""


class Served(nn.Module):
    """Columns [n, 1] in the order of `fields` in, outputs [n, 1] out: what is traced.

    Args:
        recipe: Gives the outputs.
        net: Trained.
        fields: The inputs that the network takes.
        outputs: Names of what is served.
    """

    def __init__(
        self, recipe: Recipe, net: nn.Module, fields: Sequence[Field], outputs: Sequence[str]
    ) -> None:
        super().__init__()
        self.net = net
        self._recipe = recipe
        self._inputs = tuple(field.name for field in fields)
        self._outputs = tuple(outputs)

    def forward(self, *columns: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs in their declared order."""
        x = {name: column[:, 0] for name, column in zip(self._inputs, columns, strict=True)}
        outputs = self._recipe.output(self.net(x))
        return tuple(outputs[name].to(torch.float32).reshape(-1, 1) for name in self._outputs)


def export_graph(
    recipe: Recipe, net: nn.Module, spec: FittedSpec, signature: Signature, sample: Columns
) -> bytes:
    """Return the ONNX file of a trained network, its transform and its vocabularies.

    By torch's tracing exporter: on the same network it takes 0.4 s where the newer one takes 15 s.
    Tracing fixes whatever the code decides by looking at values; `parity` is what notices.

    Args:
        recipe: Gives the outputs.
        net: Trained; left in evaluation mode.
        spec: Fitted on the training part.
        signature: What the graph shall take and give. Inputs that the network does not take, as
            the business key, are accepted and not used.
        sample: Encoded inputs [n], n >= 2, to trace with.

    Raises:
        RecipeFailed: Torch cannot export it.
    """
    net.eval()
    names = [field.name for field in signature.outputs]
    served = Served(recipe, net, spec.fields, names).eval()
    inputs = [_inner_name(field) for field in spec.fields]
    file = io.BytesIO()
    with recipe_step("export"), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the exporter itself, see above
        torch.onnx.export(
            served,
            tuple(sample[field.name].reshape(-1, 1) for field in spec.fields),
            cast("str", file),  # the tracing exporter takes a file, its annotation does not say so
            dynamo=False,
            opset_version=OPSET,
            input_names=inputs,
            output_names=names,
            dynamic_axes={name: {0: "rows"} for name in (*inputs, *names)},
        )
    model = onnx.load_from_string(file.getvalue())
    _take_columns(model, spec, signature)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _take_columns(model: onnx.ModelProto, spec: FittedSpec, signature: Signature) -> None:
    """Put a dictionary in front of each string input and declare inputs and outputs anew."""
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    encoders = [
        _label_encoder(field, spec.vocabulary(field.name))
        for field in spec.fields
        if field.datatype == "string" and _inner_name(field) in used
    ]
    nodes = [*encoders, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    for side, fields in ((graph.input, signature.inputs), (graph.output, signature.outputs)):
        del side[:]
        side.extend(
            helper.make_tensor_value_info(field.name, ELEMENTS[field.triton], ["rows", 1])
            for field in fields
        )
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
    model.ir_version = IR_VERSION


def _label_encoder(field: Field, vocabulary: Sequence[str]) -> onnx.NodeProto:
    return helper.make_node(
        "LabelEncoder",
        [field.name],
        [_inner_name(field)],
        domain="ai.onnx.ml",
        keys_strings=["", *vocabulary],  # missing is 0 as unseen is; and the list may not be empty
        values_int64s=list(range(len(vocabulary) + 1)),
        default_int64=0,
    )


def _inner_name(field: Field) -> str:
    return field.name + CODES if field.datatype == "string" else field.name
