"""`ciclo demo`: plays an example's story over the whole system."""

import runpy
import sys
from pathlib import Path
from typing import Annotated

import typer

from ciclo.errors import NotFound


def demo(
    control: Annotated[
        str, typer.Option(help="Play a control in its place: permuted, no-labels or equal.")
    ] = "",
    json: Annotated[Path | None, typer.Option(help="Write the figures to this file.")] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Keep state and tables in this folder, and the system up.")
    ] = None,
    example: Annotated[
        Path, typer.Option(help="Folder of the example, which holds a demo.py.")
    ] = Path("examples/flights"),
) -> None:
    """Play a summer of flights: the model degrades, is retrained, judged and promoted."""
    story = example / "demo.py"
    if not story.is_file():
        raise NotFound(
            f"{story} does not exist: run this from a checkout of Ciclo, or name --example"
        )
    arguments = [*(["--control", control] if control else [])]
    arguments += ["--json", str(json)] if json else []
    arguments += ["--keep", str(keep)] if keep else []
    sys.path.insert(0, str(example))
    sys.argv = [str(story), *arguments]
    runpy.run_path(str(story), run_name="__main__")
