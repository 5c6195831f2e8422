"""What a run tells, and what a recipe prints, never get in each other's way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ciclo_trainer.training.progress import PROGRESS, TAIL_BYTES, newest_progress, printed_to, tell


def test_a_run_that_told_nothing_has_no_progress(tmp_path: Path) -> None:
    assert newest_progress(tmp_path) == ""


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"event": "epoch", "epoch": 2, "of": 5, "train": 0.3}, "epoch 2 of 5"),
        ({"event": "resumed", "epoch": 2}, "resumed after epoch 2"),
        ({"event": "step", "step": "fit", "seconds": 1.5}, "fit done"),
    ],
)
def test_the_newest_event_is_told_in_words(tmp_path: Path, event: dict, words: str) -> None:
    tell(tmp_path, {"event": "step", "step": "read"})
    tell(tmp_path, event)

    assert newest_progress(tmp_path) == words


@pytest.mark.parametrize(
    "line", [b"hello\n", b"[1, 2]\n", b"null\n", b"{}\n", b"\xff\n", b'{"event": "ep']
)
def test_a_line_that_is_no_event_counts_for_nothing(tmp_path: Path, line: bytes) -> None:
    tell(tmp_path, {"event": "step", "step": "fit"})
    with (tmp_path / PROGRESS).open("ab") as file:
        file.write(line)

    assert newest_progress(tmp_path) == "fit done"


def test_an_event_of_any_length_does_no_harm(tmp_path: Path) -> None:
    tell(tmp_path, {"event": "step", "step": "fit"})
    tell(tmp_path, {"event": "epoch", "epoch": 1, "of": 1, "note": "x" * TAIL_BYTES})

    assert newest_progress(tmp_path) == ""


def test_what_is_printed_goes_to_the_file_also_by_children(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    print_more = [sys.executable, "-c", "print('child')"]
    with printed_to(tmp_path / "log.txt"):
        os.write(1, b"by C\n")
        os.write(2, b"an error\n")
        subprocess.run(print_more, check=True)
    os.write(1, b"afterwards\n")

    assert (tmp_path / "log.txt").read_text() == "by C\nan error\nchild\n"
    assert capfd.readouterr() == ("afterwards\n", "")
