"""How features and scores of vectors are laid out, shared by both engines."""

from __future__ import annotations

from typing import NamedTuple

PAIR_POWER = 4
"""Power of what the witness of pairs has seen: it looks where most has moved."""

SHOWN = 8
"""Leading components with a stream of their own."""

SCALE_ROWS = 200
"""Rows over which the scale of a witness's scores is followed."""

SCALE_START = 50
"""Rows that its first guess, 1, counts for."""

SCALE_JUMP = 9.0
"""Squared scores above this many times their mean count as much."""


class Witness(NamedTuple):
    """A witness: the features that it looks at, and how it weighs what it has seen.

    Args:
        start: Its first feature.
        end: The one after its last.
        memory: Which of the memories it uses.
        power: Its weights are w |w|^(power - 1), w the fading mean of its features.
    """

    start: int
    end: int
    memory: int
    power: int
