"""The `ciclo` command. Lists its commands without importing them, so that help comes at once."""

import importlib
import sys
from types import MappingProxyType
from typing import Annotated, Any

import typer
from typer import Context
from typer.core import TyperGroup

from ciclo.errors import CicloError

COMMANDS = MappingProxyType(
    {
        "up": ("ciclo_local.cli:up", "Start the whole system on this machine."),
        "down": ("ciclo_local.cli:down", "Stop it and leave nothing running."),
        "status": ("ciclo_local.cli:status", "Say what runs, and how the loops stand."),
        "doctor": ("ciclo_local.cli:doctor", "Check this machine and each part, with remedies."),
        "demo": ("ciclo.cli.demo:demo", "Play a summer of flights and watch the loop close."),
        "init": ("ciclo.cli.init:init", "Make a loop of your own to start from."),
        "apply": ("ciclo.cli.loops:apply", "Put a loop's definition into force."),
        "predict": ("ciclo.cli.predict:predict", "Ask a model for predictions."),
        "train": ("ciclo.cli.train:train", "Train a version now."),
        "models": ("ciclo.cli.models:models", "List models and versions with their evidence."),
        "rollout": ("ciclo.cli.rollouts:rollout", "List, start or force rollouts."),
        "rollback": ("ciclo.cli.rollouts:rollback", "Return to the previous champion."),
        "cycles": ("ciclo.cli.why:cycles", "List the cycles of a loop."),
        "why": ("ciclo.cli.why:why", "Show what caused what, from the recorded events."),
        "pause": ("ciclo.cli.loops:pause", "Stop a loop from acting by itself."),
        "resume": ("ciclo.cli.loops:resume", "Let a paused loop act again."),
        "dlq": ("ciclo.cli.dlq:dlq", "List and redrive dead letters."),
        "backtest": ("ciclo.cli.backtest:backtest", "Run a loop's policy over recorded data."),
    }
)
"""Each command with the place of its function and one line of help."""


class _Commands(TyperGroup):
    """A group whose commands are imported when they are called."""

    def list_commands(self, _ctx: Context) -> list[str]:  # type: ignore[override]
        return list(COMMANDS)

    def get_command(self, _ctx: Context, cmd_name: str) -> Any:  # type: ignore[override]
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        found = getattr(importlib.import_module(module), name)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(add_completion=False)
            single.command(cmd_name)(found)
            found = single
        return typer.main.get_command(found)

    def format_commands(self, _ctx: Context, formatter: Any) -> None:  # type: ignore[override]
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # 90 ms that help need not pay

        typer.echo(f"ciclo {version('ciclo')}")
        raise typer.Exit


@app.callback(no_args_is_help=True)
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Ciclo keeps a deep-learning model good after it is deployed."""


def main() -> None:
    """Runs the command line; an error of ours is one line, never a traceback."""
    try:
        app(prog_name="ciclo")
    except CicloError as error:
        typer.echo(f"ciclo: {error.message}", err=True)
        sys.exit(1)
