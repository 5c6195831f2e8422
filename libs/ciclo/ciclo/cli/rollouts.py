"""`ciclo rollout` and `ciclo rollback`: how challengers come and go, and how a person steps in."""

import getpass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ciclo.cli.connection import DEFAULT_STATE, AsJson, Model, Reason, StateDir, connect, print_json
from ciclo.events.v1.registry_state_pb2 import RegistryState
from ciclo.events.v1.rollout_judged_pb2 import Stage
from ciclo.registry.v1 import registry_service_pb2 as pb
from ciclo.registry.v1.registry_service_pb2_grpc import RegistryServiceStub

rollout = typer.Typer(
    add_completion=False, no_args_is_help=True, help="List, start or force rollouts."
)

Version = Annotated[int, typer.Option("--version", help="Number of the version.")]


@rollout.command("list")
def show(model: Model, state: StateDir = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """List a model's rollouts with their last judgement, newest first."""
    with connect(state).stub("registry", RegistryServiceStub) as registry:
        answer = registry.ListRollouts(pb.ListRolloutsRequest(model=model), timeout=30)
    if as_json:
        print_json(answer)
        return
    table = Table(title=f"rollouts of {model}", title_justify="left")
    for column in (
        "rollout",
        "challenger",
        "stage",
        "verdict",
        "gain",
        "days",
        "rows",
        "exposed",
        "ended",
    ):
        table.add_column(column)
    for r in answer.rollouts:
        table.add_row(
            r.rollout.rollout_id,
            str(r.rollout.challenger.version),
            stage_name(r.rollout.stage),
            r.verdict,
            f"{r.mean_gain:+.4f} [{r.gain_low:+.4f}, {r.gain_high:+.4f}]" if r.blocks else "",
            str(r.blocks),
            str(r.rows),
            str(r.rollout.exposed_rows),
            r.end_reason.lower(),
        )
    Console().print(table)


@rollout.command()
def start(
    model: Model,
    version: Version,
    override: Annotated[str, typer.Option(help="Overrides refused gates, for this reason.")] = "",
    state: StateDir = DEFAULT_STATE,
) -> None:
    """Start the rollout of a version, in shadow."""
    request = pb.StartRolloutRequest(
        model=model, version=version, override_reason=override, requested_by=getpass.getuser()
    )
    with connect(state).stub("registry", RegistryServiceStub) as registry:
        answer = registry.StartRollout(request, timeout=30)
    typer.echo(f"{model}: rollout {answer.rollout_id} of version {version} begins in shadow")


@rollout.command()
def force(
    model: Model,
    reason: Reason,
    version: Version = 0,
    state: StateDir = DEFAULT_STATE,
    as_json: AsJson = False,
) -> None:
    """Move a rollout past its stage without the evidence. Break glass: audited."""
    request = pb.ForceRolloutRequest(
        model=model, reason=reason, version=version, requested_by=getpass.getuser()
    )
    with connect(state).stub("registry", RegistryServiceStub) as registry:
        answer = registry.ForceRollout(request, timeout=30)
    print_json(answer.state) if as_json else typer.echo(
        f"{model}: forced; {standing(answer.state)}"
    )


def rollback(
    model: Model, reason: Reason, state: StateDir = DEFAULT_STATE, as_json: AsJson = False
) -> None:
    """Take the present rollout back, or return to the previous champion."""
    request = pb.RollBackRequest(model=model, reason=reason, requested_by=getpass.getuser())
    with connect(state).stub("registry", RegistryServiceStub) as registry:
        answer = registry.RollBack(request, timeout=30)
    print_json(answer.state) if as_json else typer.echo(
        f"{model}: rolled back; {standing(answer.state)}"
    )


def stage_name(stage: "Stage.ValueType") -> str:
    """Returns a stage in lower case, such as `shadow`."""
    return Stage.Name(stage).removeprefix("STAGE_").lower()


def standing(state: RegistryState) -> str:
    """Returns one line: who serves with which weight, and the stage of a rollout."""
    weights = (
        ", ".join(f"version {w.version} {w.weight:.0%}" for w in state.weights if w.weight)
        or "nothing"
    )
    stage = f"; rollout in {stage_name(state.rollout.stage)}" if state.HasField("rollout") else ""
    return f"{weights} answers{stage}"
