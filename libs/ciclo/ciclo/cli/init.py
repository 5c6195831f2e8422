"""`ciclo init`: writes a loop of one's own, which works unchanged and says what to change."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from ciclo.cli.connection import AsJson, print_json
from ciclo.errors import Conflict, Reject
from ciclo.units import Name

FILES = ("README.md", "loop.yaml", "features.py", "recipe.py", "play.py")
"""What a new loop consists of."""

TEMPLATE_MODEL = "churn"
"""The model's name in the template, which is a whole loop itself; it means nothing else there."""

TEMPLATE_FOLDER = "FOLDER"
"""Stands for the loop's folder in the template's commands."""


def init(
    folder: Annotated[Path, typer.Argument(help="Folder to write; a new or an empty one.")],
    model: Annotated[str, typer.Option(help="Name of the model; the folder's without it.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a loop of your own to start from, with example data that it can be tried on."""
    name = _model_name(model or folder.resolve().name)
    _require_empty(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        text = (files("ciclo") / "template" / file).read_text()
        text = text.replace(TEMPLATE_MODEL, name).replace(TEMPLATE_FOLDER, str(folder))
        (folder / file).write_text(text)
    if as_json:
        print_json({"model": name, "files": [str(folder / file) for file in FILES]})
        return
    typer.echo(f"{name}: wrote {', '.join(FILES)} into {folder}")
    typer.echo(f"next: `ciclo up`, `ciclo apply {folder}`; {folder}/README.md tells the rest")


def _model_name(name: str) -> str:
    try:
        return TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise Reject(
            f"{name!r} is no name of a model, expected a lower-case letter, then at most 62 lower-"
            "case letters, digits and dashes: name one with --model",
            field="model",
        ) from None


def _require_empty(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise Conflict(f"{folder} is a file, expected a new or an empty folder", field="folder")
    found = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if found:
        raise Conflict(
            f"{folder} is not empty (it holds {', '.join(found[:3])}): nothing was written; "
            "name a new or an empty folder",
            field="folder",
        )
