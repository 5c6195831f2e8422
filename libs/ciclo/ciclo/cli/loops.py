"""`ciclo apply`, `pause` and `resume`: what a loop is, and whether it acts by itself."""

import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from ciclo.cli.connection import (
    DEFAULT_STATE,
    AsJson,
    Connection,
    Model,
    Reason,
    StateDir,
    connect,
    print_json,
)
from ciclo.errors import CicloError, Reject
from ciclo.features.v1.feature_service_pb2 import CheckLoopRequest
from ciclo.features.v1.feature_service_pb2_grpc import FeatureServiceStub
from ciclo.loop import LOOP_FILE, InvalidLoop, read_loop
from ciclo.loop_code import code_problems
from ciclo.registry.v1 import registry_service_pb2 as pb
from ciclo.registry.v1.registry_service_pb2_grpc import RegistryServiceStub

LARGEST_FILE_BYTES = 1_000_000
"""A definition holds code and settings; something larger does not belong there."""

CHECK_SECONDS = 150.0
"""How long a check may take: features.py has two minutes, after the import of Feast."""


def definition(folder: Path) -> dict[str, bytes]:
    """Returns the files of a loop's folder by their relative path; hidden ones and caches left out.

    Raises:
        InvalidLoop: There is no loop.yaml, or it or the code has problems: the message lists all.
        Reject: A file is too large.
    """
    files = _files(folder)
    problems, recipe = [], ""
    try:
        recipe = read_loop(folder).recipe
    except InvalidLoop as error:
        if LOOP_FILE not in files:
            raise
        problems.append(error.message)
    if wrong := code_problems(files, recipe):
        problems.append(
            f"the code in {folder} has {len(wrong)} problem(s):\n  " + "\n  ".join(wrong)
        )
    if problems:
        raise InvalidLoop("\n".join([*problems, "nothing was applied"]))
    return files


def apply(
    folder: Annotated[
        Path, typer.Argument(help="Folder with loop.yaml, the recipe and features.py.")
    ],
    state: StateDir = DEFAULT_STATE,
    as_json: AsJson = False,
) -> None:
    """Put a loop's definition into force. Applying it again changes nothing."""
    request = pb.ApplyLoopRequest(files=definition(folder), requested_by=getpass.getuser())
    connection = connect(state)
    _require_usable(connection, request.files)
    with connection.stub("registry", RegistryServiceStub) as registry:
        answer = registry.ApplyLoop(request, timeout=60)
    if as_json:
        print_json(answer)
        return
    verb = "applied" if answer.changed else "in force already"
    typer.echo(f"{answer.model}: {verb} ({answer.loop_digest[7:19]})")


def pause(
    model: Model, reason: Reason, state: StateDir = DEFAULT_STATE, as_json: AsJson = False
) -> None:
    """Stop a loop from acting by itself. It goes on serving and watching."""
    request = pb.PauseLoopRequest(model=model, reason=reason, requested_by=getpass.getuser())
    with connect(state).stub("registry", RegistryServiceStub) as registry:
        answer = registry.PauseLoop(request, timeout=30)
    print_json(answer.state) if as_json else typer.echo(f"{model}: paused")


def resume(
    model: Model, reason: Reason, state: StateDir = DEFAULT_STATE, as_json: AsJson = False
) -> None:
    """Let a paused loop act by itself again."""
    request = pb.ResumeLoopRequest(model=model, reason=reason, requested_by=getpass.getuser())
    with connect(state).stub("registry", RegistryServiceStub) as registry:
        answer = registry.ResumeLoop(request, timeout=30)
    print_json(answer.state) if as_json else typer.echo(f"{model}: acts by itself again")


def _require_usable(connection: Connection, files: Mapping[str, bytes]) -> None:
    """Has features.py run, and loop.yaml compared with it, as if both were in force.

    Raises:
        CicloError: They cannot be used, or it could not be found out in time.
    """
    request = CheckLoopRequest(files=files)
    try:
        with connection.stub("feature-store", FeatureServiceStub) as features:
            features.CheckLoop(request, timeout=CHECK_SECONDS)
    except CicloError as error:
        raise type(error)(
            f"{error.message}\nnothing was applied; a definition that is in force stays so",
            reason=error.reason,
        ) from error


def _files(folder: Path) -> dict[str, bytes]:
    files = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith((".", "__pycache__")) for part in relative.parts)
        if hidden or not path.is_file():
            continue
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise Reject(
                f"{path} exceeds {LARGEST_FILE_BYTES} bytes; keep data out of a loop's folder"
            )
        files[relative.as_posix()] = path.read_bytes()
    return files
