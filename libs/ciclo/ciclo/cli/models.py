"""`ciclo models`: versions with their aliases, evidence and gates."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ciclo.cli.connection import DEFAULT_STATE, AsJson, StateDir, as_dict, connect, print_json
from ciclo.registry.v1 import registry_service_pb2 as pb
from ciclo.registry.v1.registry_service_pb2_grpc import RegistryServiceStub


def models(
    model: Annotated[str, typer.Argument(help="Name of a model; all models without it.")] = "",
    state: StateDir = DEFAULT_STATE,
    as_json: AsJson = False,
) -> None:
    """List versions: what serves, what was refused, and the evidence."""
    with connect(state).stub("registry", RegistryServiceStub) as registry:
        names = (
            [model]
            if model
            else [s.model for s in registry.ListModels(pb.ListModelsRequest(), timeout=30).states]
        )
        versions = {
            name: list(
                registry.ListVersions(pb.ListVersionsRequest(model=name), timeout=30).versions
            )
            for name in names
        }
    if as_json:
        print_json({name: [as_dict(v) for v in found] for name, found in versions.items()})
        return
    if not versions:
        typer.echo("no model yet: `ciclo apply FOLDER` makes one from a loop")
    for name, found in versions.items():
        Console().print(_table(name, found))


def _table(name: str, versions: list[pb.ModelVersion]) -> Table:
    table = Table(title=name, title_justify="left")
    for column in ("version", "status", "aliases", "log loss", "learned until", "gates", "bundle"):
        table.add_column(column)
    for v in versions:
        refused = [gate.rule for gate in v.gates if not gate.passed]
        table.add_row(
            str(v.version.version),
            v.status.lower(),
            ", ".join(v.aliases),
            f"{v.metrics['log_loss']:.4f}" if "log_loss" in v.metrics else "",
            f"{v.newest_event_time.ToDatetime():%Y-%m-%d %H:%M}"
            if v.HasField("newest_event_time")
            else "",
            f"refused: {', '.join(refused)}" if refused else f"{len(v.gates)} passed",
            v.version.bundle_digest[7:19],
        )
    return table
