"""What a run tells while it works: progress.jsonl; whatever else is printed goes to log.txt."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PROGRESS: Final = "progress.jsonl"
"""File of a run's folder that has one JSON object for each epoch and each step that ended."""

LOG: Final = "log.txt"
"""File of a run's folder that has what was printed, by the recipe or about it."""

TAIL_BYTES: Final = 65_536
"""How much of the progress is looked at for its newest line."""


@contextmanager
def printed_to(path: Path) -> Iterator[None]:
    """Send what is printed meanwhile to the end of a file, also by C and by child processes.

    A file takes whatever is written. A pipe makes its writer wait for a reader, for ever if that
    one stumbles over what it reads.
    """
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    with path.open("ab") as log:
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)
    try:
        yield
    finally:
        with suppress(AttributeError, ValueError):  # the recipe may have replaced or closed it
            sys.stdout.flush()
        for descriptor, before in zip((1, 2), kept, strict=True):
            os.dup2(before, descriptor)
            os.close(before)


def tell(folder: Path, event: Mapping[str, object]) -> None:
    """Add a line to a run's progress."""
    with (folder / PROGRESS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\n")


def newest_progress(folder: Path) -> str:
    """Return what a run did last, for people; empty if it has not done anything yet.

    Never fails for what a line holds: one that is cut, or is none of ours, does not count.
    """
    try:
        with (folder / PROGRESS).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return ""
    return next(filter(None, map(_in_words, reversed(lines))), "")


def _in_words(line: bytes) -> str:
    with suppress(ValueError, LookupError, TypeError):
        event = json.loads(line)
        if event["event"] == "epoch":
            return f"epoch {event['epoch']} of {event['of']}"
        if event["event"] == "resumed":
            return f"resumed after epoch {event['epoch']}"
        return f"{event['step']} done"
    return ""
