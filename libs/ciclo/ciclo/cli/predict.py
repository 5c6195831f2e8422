"""`ciclo predict`: asks a model as an application would, through the one port."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from ciclo.cli.connection import (
    DEFAULT_STATE,
    AsJson,
    Connection,
    Model,
    StateDir,
    connect,
    print_json,
)
from ciclo.cli.event_time import model_clock, parse_event_time
from ciclo.common.v1 import tensor_pb2
from ciclo.errors import Reject, Retry
from ciclo.serving.v1 import prediction_service_pb2 as pb
from ciclo.serving.v1.prediction_service_pb2_grpc import PredictionServiceStub


def predict(
    model: Model,
    rows: Annotated[
        str, typer.Argument(help="Rows as JSON: an object, a list of objects, or @FILE.")
    ],
    event_time: Annotated[
        str,
        typer.Option(
            help="When, in the world of the model: a date, or a time as in RFC 3339. Without it "
            "the newest that the model was asked at, as the monitor knows it, or else now."
        ),
    ] = "",
    state: StateDir = DEFAULT_STATE,
    as_json: AsJson = False,
) -> None:
    """Ask a model for predictions by entity."""
    request = pb.PredictRequest(model=model, columns=_columns(_parsed(rows)))
    time = parse_event_time(event_time, "--event-time") if event_time else None
    connection = connect(state)
    if time := time or _model_clock(connection, model):
        request.event_time.CopyFrom(time)
    with connection.stub("envoy", PredictionServiceStub) as client:
        answer = client.Predict(request, timeout=30)
    if as_json:
        print_json(answer)
        return
    for column in answer.outputs:
        values = getattr(column, column.WhichOneof("values") or "doubles").values
        typer.echo(f"{column.name}: {', '.join(str(value) for value in values)}")
    who = f"version {answer.version} ({answer.variant})"
    when = request.event_time.ToJsonString() if request.HasField("event_time") else "now"
    typer.echo(f"prediction {answer.prediction_id} by {who}, asked as of {when}")


def _model_clock(connection: Connection, model: str) -> Timestamp | None:
    """Not knowing is no reason to take now: that may lie ahead, and a model's clock never returns.

    Raises:
        Retry: The monitor does not answer.
    """
    try:
        return model_clock(connection, model)
    except Retry as error:
        raise Retry(
            f"where the clock of {model} stands is not known, as {error.message}; or say when: "
            "--event-time"
        ) from error


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
