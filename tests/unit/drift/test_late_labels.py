"""Late losses: any order of arrival gives the same blocks, and nothing is lost silently."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciclo_drift import BlockMeanTest, DriftInputError, PairedComparison, pack, unpack
from ciclo_drift.late_labels import LateLosses, MatureBlock

FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=64).filter(lambda x: abs(x) < 1e300)


def fed(blocks: np.ndarray, losses: np.ndarray, sizes: list[int] | None = None) -> LateLosses:
    late = LateLosses()
    ends = np.cumsum(sizes or [len(blocks)])
    for part in np.split(np.arange(len(blocks)), ends[:-1]):
        late.add(blocks[part], losses[part])
    return late


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), FLOATS), min_size=1, max_size=40), st.data())
def test_any_order_and_batching_gives_exactly_rounded_totals(rows, data):
    order = data.draw(st.permutations(range(len(rows))))
    cut = data.draw(st.integers(0, len(rows)))
    blocks, losses = np.array([b for b, _ in rows]), np.array([x for _, x in rows])

    first = fed(blocks, losses)
    second = fed(blocks[order], losses[order], [cut, len(rows) - cut])

    assert pack(first.snapshot()) == pack(second.snapshot())
    found = first.mature(10)
    assert found == second.mature(10)
    assert found == [
        MatureBlock(b, math.fsum(losses[blocks == b]), int((blocks == b).sum()))
        for b in np.unique(blocks).tolist()
    ]


def test_a_plain_sum_would_depend_on_the_order():
    losses = np.random.default_rng(0).exponential(size=1_000)
    plain = {float(np.cumsum(np.random.default_rng(i).permutation(losses))[-1]) for i in range(9)}
    blocks = np.zeros(1_000, dtype=np.int64)
    exact = {
        fed(blocks, np.random.default_rng(i).permutation(losses)).mature(1)[0].total
        for i in range(9)
    }

    assert len(plain) > 1
    assert exact == {math.fsum(losses)}


@pytest.mark.parametrize("size", [5e-324, 2.5e-310, 1e-300, 1.0, 1e300])
def test_losses_of_any_size_are_summed_exactly(size: float):
    losses = np.array([size, 1.0, 3.0 * size, -1.0])

    assert fed(np.zeros(4, dtype=int), losses).mature(1)[0].total == 4.0 * size


def test_blocks_come_in_time_order_once_and_without_empty_ones():
    late = fed(np.array([9, 2, 5, 2]), np.array([1.0, 2.0, 3.0, 4.0]))

    assert [done.block for done in late.mature(before=6)] == [2, 5]
    assert late.mature(before=6) == []
    assert (late.open_blocks, late.watermark) == (1, 6)
    assert late.mature(before=10) == [MatureBlock(9, 1.0, 1)]


def test_labels_after_the_watermark_are_counted_and_enter_no_block():
    late = fed(np.array([1, 2]), np.array([0.5, 0.5]))
    late.mature(before=2)
    late.add(np.array([1, 0, 2]), np.array([0.25, 0.5, 0.5]))

    assert (late.late_rows, late.late_total) == (2, 0.75)
    assert late.mature(before=3) == [MatureBlock(2, 1.0, 2)]


def test_a_clock_that_jumps_back_changes_nothing():
    late = fed(np.array([1, 7]), np.array([0.5, 0.5]))
    late.mature(before=5)
    before = pack(late.snapshot())

    for again in (3, 5):
        assert late.mature(before=again) == []
        assert pack(late.snapshot()) == before


def test_more_open_blocks_than_allowed_are_refused_whole():
    late = LateLosses(max_open_blocks=3)
    late.add(np.array([1, 2]), np.ones(2))
    before = pack(late.snapshot())

    with pytest.raises(DriftInputError, match="4 blocks open; expected at most 3: move the water"):
        late.add(np.array([1, 3, 4]), np.ones(3))

    assert pack(late.snapshot()) == before
    late.mature(before=2)
    late.add(np.array([0, 3, 4]), np.ones(3))
    assert (late.open_blocks, late.late_rows) == (3, 1)


@pytest.mark.parametrize(
    ("blocks", "losses", "message"),
    [
        (np.array([1]), np.array([np.nan]), "losses: nan at position 0"),
        (np.array([1]), np.array([np.inf]), "losses: inf at position 0"),
        (np.array([1, 2]), np.array([1.0]), r"blocks: shape \(2,\)"),
        (np.array([1.5]), np.array([1.0]), "blocks: ids of type float64; expected whole numbers"),
        (np.array([2**63], np.uint64), np.array([1.0]), "blocks: ids of type uint64"),
    ],
)
def test_rows_that_cannot_be_summed_are_refused_whole(blocks, losses, message: str):
    late = LateLosses()
    with pytest.raises(DriftInputError, match=message):
        late.add(blocks, losses)

    assert late.open_blocks == 0


def test_no_rows_are_no_rows():
    late = LateLosses()
    late.add(np.empty(0, dtype=int), np.empty(0))

    assert (late.watermark, late.mature(before=5), late.watermark) == (None, [], 5)


def test_a_restored_snapshot_goes_on_as_if_nothing_had_happened():
    rng = np.random.default_rng(1)
    whole = fed(rng.integers(0, 9, 200), rng.normal(size=200))
    whole.mature(before=4)
    whole.add(np.array([1]), np.array([0.1]))
    restored = LateLosses.restore(unpack(pack(whole.snapshot())))

    for late in (whole, restored):
        late.add(np.array([8, 2]), np.array([0.3, 0.7]))

    assert pack(whole.snapshot()) == pack(restored.snapshot())
    assert (restored.late_rows, restored.late_total) == (whole.late_rows, whole.late_total)
    assert whole.mature(before=99) == restored.mature(before=99)


def test_reset_forgets_rows_and_watermark():
    late = fed(np.array([1, 2]), np.array([0.5, 0.5]))
    late.mature(before=2)
    late.reset()

    assert pack(late.snapshot()) == pack(LateLosses().snapshot())


def test_a_snapshot_of_something_else_is_refused():
    with pytest.raises(DriftInputError, match="expected a snapshot of ciclo_drift"):
        LateLosses.restore(PairedComparison(clip=1.0).snapshot())


def test_a_setting_out_of_range_is_refused():
    with pytest.raises(DriftInputError, match="max_open_blocks: 0"):
        LateLosses(max_open_blocks=0)


def test_tests_fed_late_and_in_disorder_say_what_they_say_in_order():
    rng = np.random.default_rng(2)
    blocks = np.repeat(np.arange(30), 50)
    losses = rng.normal(0.4, 0.3, 1_500) + 0.2 * (blocks >= 20)
    # Labels wait up to three days; every evening the watermark follows.
    arrives = blocks + rng.integers(0, 3, 1_500)
    late, said = LateLosses(), []
    disorder = BlockMeanTest(rng.normal(20, 2, 10), np.full(10, 50), budget_blocks=100)
    order = BlockMeanTest.restore(disorder.snapshot())
    for day in range(33):
        today = rng.permutation(np.flatnonzero(arrives == day))
        late.add(blocks[today], losses[today])
        said += [disorder.update(done.total, done.rows) for done in late.mature(before=day - 2)]
    said += [disorder.update(done.total, done.rows) for done in late.mature(before=99)]
    straight = [order.update(math.fsum(losses[blocks == day]), 50) for day in range(30)]

    assert said == straight
    assert late.late_rows == 0
    assert said[-1].alarm
