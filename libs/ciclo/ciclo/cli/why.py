"""`ciclo why` and `ciclo cycles`: the causal chain of each cycle, from recorded events alone."""

import asyncio
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from ciclo.cli.connection import DEFAULT_STATE, AsJson, Model, StateDir, connect, print_json
from ciclo.cli.telling import told
from ciclo.history import Cause, RecordedEvent, causes, read_events
from ciclo.history import cycles as by_cycle
from ciclo.registry.v1.registry_service_pb2 import GetModelRequest
from ciclo.registry.v1.registry_service_pb2_grpc import RegistryServiceStub

PIPED_WIDTH = 1_000
"""Characters of a line where the output is no terminal: nothing is cropped."""

END = {
    "RolloutCompleted": "completed",
    "RolloutRolledBack": "rolled back",
    "TrainingFailed": "training failed",
    "ModelPromoted": "promoted",
}
"""What the last such event of a cycle says about its outcome."""

AT_ONCE = {"LoopApplied": "applied", "LoopPaused": "paused", "LoopResumed": "resumed"}
"""How a cycle without a decisive event ended if it began with such a command of a person."""


def why(
    model: Model,
    cycle: Annotated[
        str, typer.Option(help="Id of a cycle, or its beginning; all without it.")
    ] = "",
    judgements: Annotated[
        bool, typer.Option(help="Show every judgement, not only the last one of a stage.")
    ] = False,
    state: StateDir = DEFAULT_STATE,
    as_json: AsJson = False,
) -> None:
    """Show what caused what. Every line is an event with its place on a topic."""
    found = {
        name: events for name, events in _cycles(model, state).items() if name.startswith(cycle)
    }
    if as_json:
        print_json({name: [as_row(event) for event in events] for name, events in found.items()})
        return
    if not found:
        typer.echo(f"{model}: no cycle{' ' + cycle if cycle else ''} is recorded")
    for name, events in found.items():
        tree = Tree(f"[bold]cycle {name}[/bold] of {model}: {outcome(events)}")
        for cause in causes(events if judgements else _without_repeats(events)):
            _grow(tree, cause)
        console = Console()
        if not console.is_terminal:
            console.width = PIPED_WIDTH
        console.print(tree)


def cycles(model: Model, state: StateDir = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """List the cycles of a loop: when, why, and how each ended."""
    found = _cycles(model, state)
    if as_json:
        print_json(
            [
                {
                    "cycle": name,
                    "cause": events[0].name,
                    "outcome": outcome(events),
                    "start": events[0].envelope.time,
                    "event_time": events[0].event_time,
                    "events": len(events),
                }
                for name, events in found.items()
            ]
        )
        return
    table = Table(title=f"cycles of {model}", title_justify="left")
    for column in ("cycle", "event time", "began with", "outcome", "events"):
        table.add_column(column)
    for name, events in found.items():
        time = next((e.event_time for e in events if e.event_time), None)
        table.add_row(
            name,
            f"{time:%Y-%m-%d}" if time else "",
            events[0].name,
            outcome(events),
            str(len(events)),
        )
    Console().print(table)


def outcome(events: list[RecordedEvent]) -> str:
    """Returns how a cycle ended: the word for its last decisive event, or for the command."""
    begun = AT_ONCE.get(events[0].name, "under way")
    return next((END[e.name] for e in reversed(events) if e.name in END), begun)


def as_row(event: RecordedEvent) -> dict[str, object]:
    """Returns an event as plain values, with its place, cause and both times."""
    return {
        "id": event.envelope.id,
        "type": event.name,
        "cause": event.envelope.causation_id,
        "cycle": event.envelope.correlation_id,
        "source": event.envelope.source,
        "topic": event.topic,
        "partition": event.partition,
        "offset": event.offset,
        "event_time": event.event_time,
        "wall_time": event.envelope.time,
        "message": MessageToDict(event.message, preserving_proto_field_name=True),
    }


def _cycles(model: str, state: StateDir) -> dict[str, list[RecordedEvent]]:
    """Returns the events of a model's cycles.

    Raises:
        NotFound: Nothing is recorded of the model, as the registry does not know it.
    """
    connection = connect(state)
    events = asyncio.run(read_events(connection.addresses["kafka"], connection.env))
    found = by_cycle(event for event in events if event.envelope.subject == model)
    if not found:
        with connection.stub("registry", RegistryServiceStub) as registry:
            registry.GetModel(GetModelRequest(model=model), timeout=30)
    return found


def _without_repeats(events: list[RecordedEvent]) -> list[RecordedEvent]:
    causing = {event.envelope.causation_id for event in events}
    last: dict[object, str] = {}
    for event in events:
        if event.name == "RolloutJudged":
            last[getattr(event.message, "stage", 0)] = event.envelope.id
    return [
        event
        for event in events
        if event.name != "RolloutJudged"
        or event.envelope.id in causing
        or event.envelope.id in last.values()
    ]


def _grow(tree: Tree, cause: Cause) -> None:
    event = cause.event
    time = f"{event.event_time:%Y-%m-%d %H:%M}" if event.event_time else " " * 16
    place = f"[dim]{event.topic}@{event.offset}[/dim]"
    branch = tree.add(f"{time}  [bold]{event.name}[/bold] {escape(told(event.message))}  {place}")
    for effect in cause.effects:
        _grow(branch, effect)
