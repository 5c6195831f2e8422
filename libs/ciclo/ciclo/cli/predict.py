"""`ciclo predict`: asks a model as an application would, through the one port."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ciclo.cli.connection import DEFAULT_STATE, AsJson, Model, StateDir, connect, print_json
from ciclo.common.v1 import tensor_pb2
from ciclo.errors import Reject
from ciclo.serving.v1 import prediction_service_pb2 as pb
from ciclo.serving.v1.prediction_service_pb2_grpc import PredictionServiceStub


def predict(
    model: Model,
    rows: Annotated[
        str, typer.Argument(help="Rows as JSON: an object, a list of objects, or @FILE.")
    ],
    event_time: Annotated[
        str, typer.Option(help="When, in the world of the model, RFC 3339; now without it.")
    ] = "",
    state: StateDir = DEFAULT_STATE,
    as_json: AsJson = False,
) -> None:
    """Ask a model for predictions by entity."""
    request = pb.PredictRequest(model=model, columns=_columns(_parsed(rows)))
    if event_time:
        request.event_time.FromJsonString(event_time)
    with connect(state).stub("envoy", PredictionServiceStub) as client:
        answer = client.Predict(request, timeout=30)
    if as_json:
        print_json(answer)
        return
    for column in answer.outputs:
        values = getattr(column, column.WhichOneof("values") or "doubles").values
        typer.echo(f"{column.name}: {', '.join(str(value) for value in values)}")
    typer.echo(f"prediction {answer.prediction_id} by version {answer.version} ({answer.variant})")


def _parsed(rows: str) -> list[dict[str, object]]:
    try:
        found = json.loads(Path(rows[1:]).read_text() if rows.startswith("@") else rows)
    except (OSError, ValueError) as error:
        raise Reject(f"the rows are not JSON: {error}") from error
    listed = [found] if isinstance(found, dict) else found
    if (
        not isinstance(listed, list)
        or not listed
        or not all(isinstance(row, dict) for row in listed)
    ):
        raise Reject("the rows must be a JSON object or a list of objects, one a row")
    return listed


def _columns(rows: list[dict[str, object]]) -> list[tensor_pb2.Column]:
    columns = []
    for name in rows[0]:
        values: list[Any] = [row.get(name) for row in rows]
        if all(isinstance(v, str) for v in values):
            columns.append(
                tensor_pb2.Column(name=name, strings=tensor_pb2.StringValues(values=values))
            )
        elif all(isinstance(v, int) for v in values):
            columns.append(
                tensor_pb2.Column(name=name, int64s=tensor_pb2.Int64Values(values=values))
            )
        elif all(isinstance(v, int | float) or v is None for v in values):
            numbers = [float("nan") if v is None else v for v in values]
            columns.append(
                tensor_pb2.Column(name=name, doubles=tensor_pb2.DoubleValues(values=numbers))
            )
        else:
            raise Reject(f"column {name!r} mixes types: {values[:3]}", field=name)
    return columns
