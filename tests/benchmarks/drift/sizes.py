"""How much is measured: in three minutes, or in half an hour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Size:
    """Numbers of everything that is drawn.

    Args:
        references: References of the limit's and our own delays.
        nulls: Streams without a change, for each reference.
        changed: Streams with each change, for each reference.
        reference_rows: Lengths of our own references.
        run_lengths: Run lengths at which ours are compared with the limit.
        peers: References by library; a library that is absent is left out.
        peer_changed: As `changed`, for other libraries; they are fed the first of these streams.
        runs: Streams for each false-alarm ratio of independent numbers.
        budgets: Budgets of these.
        dependent: Rows of reference, budget and streams, for each dependent world.
        sets: References of 64 streams, and of vectors for each change.
        shuffles: Shuffles of a season: of its features, of models' losses.
        seeds: Seeds of the equal models.
        turns: Turns of each speed, and processor seconds of one.
    """

    references: int
    nulls: int
    changed: int
    reference_rows: Sequence[int]
    run_lengths: Sequence[int]
    peers: Mapping[str, int]
    peer_changed: int
    runs: int
    budgets: Sequence[int]
    dependent: Sequence[tuple[int, int, int]]
    sets: tuple[int, int]
    shuffles: tuple[int, int]
    seeds: int
    turns: tuple[int, float]


QUICK = Size(
    references=20,
    nulls=3,
    changed=5,
    reference_rows=(500, 5_000, 50_000),
    run_lengths=(1_000, 10_000),
    peers={"River": 5},
    peer_changed=3,
    runs=100,
    budgets=(1_000, 10_000),
    dependent=((2_000, 1_000, 60),),
    sets=(6, 2),
    shuffles=(3, 2),
    seeds=2,
    turns=(3, 0.2),
)

FULL = Size(
    references=100,
    nulls=3,
    changed=10,
    reference_rows=(500, 5_000, 50_000),
    run_lengths=(1_000, 10_000),
    peers={"River": 20, "alibi-detect": 10, "Evidently": 20},
    peer_changed=6,
    runs=300,
    budgets=(1_000, 10_000, 100_000, 1_000_000),
    dependent=((2_000, 1_000, 300), (10_000, 10_000, 150)),
    sets=(20, 10),
    shuffles=(24, 8),
    seeds=10,
    turns=(9, 0.5),
)
