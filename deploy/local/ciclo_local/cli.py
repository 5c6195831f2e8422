"""`ciclo up`, `down`, `status` and `doctor`: flags in, lines out; the work is done elsewhere."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ciclo_local.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The local stack.")
"""The four commands, for `python -m ciclo_local.cli` and for mounting."""

State = Annotated[
    Path, typer.Option("--state", envvar="CICLO_STATE_DIR", help="Folder of logs and data.")
]
Environment = Annotated[
    str | None,
    typer.Option("--env", envvar="CICLO_ENV", help="First word of every topic. Default: local."),
]
BasePort = Annotated[
    int | None,
    typer.Option(
        "--base-port",
        envvar="CICLO_BASE_PORT",
        help="First of the stack's 40 ports; clients connect to it. Default: 17600.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]

_DEFAULT_STATE = Path(".ciclo")


@app.command()
def up(
    state: State = _DEFAULT_STATE,
    environment: Environment = None,
    base_port: BasePort = None,
    only: Annotated[
        str | None, typer.Option(help="Programs to start, with commas between. Default: all.")
    ] = None,
) -> None:
    """Start Kafka, Triton, Envoy and the services; return when all are ready."""
    with _errors():
        from ciclo_local import stack

        settings = _settings(state, environment, base_port)
        names = [name.strip() for name in (only or "").split(",") if name.strip()]
        stack.up(settings, names, typer.echo)
        typer.echo(f"The stack is up. Clients connect to 127.0.0.1:{settings.ports.envoy}.")


@app.command()
def down(
    state: State = _DEFAULT_STATE,
    purge: Annotated[bool, typer.Option("--purge", help="Delete the state folder too.")] = False,
) -> None:
    """Stop everything; the data stay unless --purge is given."""
    with _errors():
        from ciclo_local import stack

        settings = _settings(state)
        _say_if_none(settings)
        stack.down(settings, with_data=purge, say=typer.echo)
        typer.echo("The stack is down.")


@app.command()
def status(state: State = _DEFAULT_STATE, as_json: Json = False) -> None:
    """Show each program: is it ready, where, how big. Exit code 1 if one that runs is not."""
    with _errors():
        from ciclo_local import health

        settings = _settings(state)
        found = health.status(settings)
    _say_if_none(settings)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
    else:
        for one in found:
            word = "ready" if one.is_ready else one.word.lower()
            size = f"{one.memory_bytes >> 20} MiB" if one.pid else ""
            line = f"{one.name:<15} {word:<9} {one.pid or '':>8} {one.address:<16} {size:>9}"
            typer.echo(f"{line}  {one.detail}".rstrip())
    if any(one.word not in ("DOWN", "STOPPED") and not one.is_ready for one in found):
        raise typer.Exit(1)


@app.command()
def doctor(
    state: State = _DEFAULT_STATE,
    base_port: BasePort = None,
    as_json: Json = False,
) -> None:
    """Check what the stack needs and how it is. Exit code 1 if something cannot work."""
    with _errors():
        from ciclo_local.doctor import Level, examine

        findings = examine(_settings(state, None, base_port))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            typer.echo(f"{finding.level:<5} {finding.subject:<15} {finding.detail}")
            if finding.remedy:
                typer.echo(f"{'':<21} -> {finding.remedy}")
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(1)


def _settings(
    state: Path, environment: str | None = None, base_port: int | None = None
) -> "Settings":
    from ciclo_local.settings import load

    home = os.environ.get("CICLO_STACK_HOME")
    return load(
        state,
        environment=environment,
        base_port=base_port,
        stack_home=Path(home) if home else None,
        log_level=os.environ.get("CICLO_LOG_LEVEL"),
    )


def _say_if_none(settings: "Settings") -> None:
    """Says which folder was looked at: the default one depends on where the command is given."""
    if not settings.note.exists():
        typer.echo(
            f"No stack was started from {settings.state}, as it holds no stack.json: name the state"
            " folder of one with --state or CICLO_STATE_DIR, or start one with `ciclo up`.",
            err=True,
        )


@contextmanager
def _errors() -> Iterator[None]:
    """Turns an error that was raised on purpose into one message and exit code 1."""
    from ciclo.errors import CicloError

    try:
        yield
    except CicloError as error:
        typer.secho(error.message, err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


if __name__ == "__main__":
    app()
