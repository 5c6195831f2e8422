"""What another policy would have done: the test of performance over recorded losses."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ciclo_drift import BlockMeanTest, Rise
from ciclo_monitor.domain.performance import HeldOut
from ciclo_monitor.domain.sums import BlockLoss


@dataclass(frozen=True, slots=True)
class Replayed:
    """A block with what the test said after it."""

    block: BlockLoss
    rise: Rise


def replay(
    losses: Iterable[BlockLoss], held_out: HeldOut, *, tolerance: float, budget_blocks: float
) -> Iterator[Replayed]:
    """Yields each block with what the test would have said after it.

    Unlike the live test it sees every label that is known by now, also those that came late.

    Args:
        losses: Of one version, served, by block.
        held_out: What its bundle promises.
        tolerance: Rise that is not degraded. Unit of the loss.
        budget_blocks: Blocks between false alarms.

    Raises:
        DriftInputError: A setting is out of range.
    """
    test = BlockMeanTest(
        held_out.losses - held_out.expected,
        held_out.rows,
        tolerance=tolerance,
        budget_blocks=budget_blocks,
    )
    for block in losses:
        yield Replayed(block, test.update(block.loss_sum - block.expected_sum, block.rows))
