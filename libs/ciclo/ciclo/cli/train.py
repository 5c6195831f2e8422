"""`ciclo train`: a version now, because a person says so."""

import getpass
import time
import uuid
from typing import Annotated

import typer

from ciclo.cli.connection import DEFAULT_STATE, AsJson, Model, StateDir, connect, print_json
from ciclo.cli.event_time import parse_event_time
from ciclo.errors import CicloError
from ciclo.training.v1 import training_service_pb2 as pb
from ciclo.training.v1.training_service_pb2_grpc import TrainingServiceStub

ENDED = (pb.RUN_STATE_SUCCEEDED, pb.RUN_STATE_FAILED)


def train(
    model: Model,
    as_of: Annotated[
        str,
        typer.Option(
            help="Cut the dataset as of this event time: a date, or a time as in RFC 3339; the "
            "watermark without it."
        ),
    ] = "",
    recipe: Annotated[
        str, typer.Option(help="Another recipe of the definition, as recipe.py:Class.")
    ] = "",
    seed: Annotated[int | None, typer.Option(help="In place of the recipe's own.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the end, showing progress.")] = True,
    state: StateDir = DEFAULT_STATE,
    as_json: AsJson = False,
) -> None:
    """Train a version now. The registry judges it like any other."""
    request = pb.StartTrainingRequest(
        model=model,
        request_id=str(uuid.uuid4()),
        requested_by=getpass.getuser(),
        recipe=recipe,
        seed=seed,
    )
    if as_of:
        request.as_of_time.CopyFrom(parse_event_time(as_of, "--as-of"))
    with connect(state).stub("trainer", TrainingServiceStub) as trainer:
        run_id = trainer.StartTraining(request, timeout=30).run_id
        run = trainer.GetRun(pb.GetRunRequest(run_id=run_id), timeout=30).run
        shown = ""
        while wait and run.state not in ENDED:
            time.sleep(0.2)
            run = trainer.GetRun(pb.GetRunRequest(run_id=run_id), timeout=30).run
            if run.progress != shown and not as_json:
                shown = run.progress
                typer.echo(f"{model}: {shown}")
    if as_json:
        print_json(run)
    if run.state == pb.RUN_STATE_FAILED:
        raise CicloError(f"run {run_id} failed: {run.error}")
    if not as_json:
        end = f"ended with bundle {run.bundle_digest[7:19]}" if run.bundle_digest else "goes on"
        typer.echo(f"{model}: run {run_id} {end}")
