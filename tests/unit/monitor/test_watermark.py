"""One wrong clock moves nothing; a world that moved on is followed."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ciclo_monitor.domain.watermark import AGREEING, OUTWEIGHED, Watermark

REACH = 100
FAR = 10**6


def after(times: list[int], mark: Watermark | None = None) -> Watermark:
    mark = mark or Watermark(REACH)
    for time in times:
        mark.take(np.array([time]))
    return mark


SETTLED = list(range(1, AGREEING + 1))


def test_a_single_time_far_ahead_is_not_believed() -> None:
    mark = after(SETTLED)
    assert not mark.take(np.array([FAR])).any()
    assert after([AGREEING + 1], mark).now_us == AGREEING + 1


def test_of_a_record_only_what_lies_far_ahead_is_left_out() -> None:
    mark = after(SETTLED)
    assert mark.take(np.array([20, FAR, 30])).tolist() == [True, False, True]
    assert mark.now_us == 30


def test_a_record_that_spans_a_long_time_without_a_gap_is_believed() -> None:
    mark = after(SETTLED)
    assert mark.take(np.array([FAR, *range(0, 50 * REACH, REACH)])).sum() == 50


def test_records_far_ahead_are_believed_once_enough_follow_each_other() -> None:
    mark = after([*SETTLED, *range(FAR, FAR + AGREEING - 1)])
    assert mark.now_us == AGREEING
    assert mark.take(np.array([FAR + AGREEING])).all()
    assert mark.now_us == FAR + AGREEING


def test_wrong_clocks_among_many_right_ones_never_add_up() -> None:
    mark = after([*SETTLED, *([FAR] + [20] * OUTWEIGHED) * 50])
    assert mark.now_us == 20


def test_a_world_that_moved_on_is_followed_though_most_still_ask_of_the_past() -> None:
    mark = after([*SETTLED, *([FAR] + [20] * 2) * 3 * AGREEING])
    assert mark.now_us == FAR


def test_a_world_that_moved_on_is_followed_though_each_record_also_asks_of_the_past() -> None:
    mark = after(SETTLED)
    for _ in range(10 * AGREEING):
        mark.take(np.array([FAR, 20, 20, 20]))
    assert mark.now_us == FAR


def test_a_wrong_clock_in_every_record_does_not_add_up_while_it_is_rare() -> None:
    mark = after(SETTLED)
    for _ in range(100 * AGREEING):
        mark.take(np.array([FAR] + [20] * (OUTWEIGHED + 1)))
    assert mark.now_us == 20


def test_after_a_pause_a_wrong_clock_before_it_is_not_what_is_believed() -> None:
    mark = after([*SETTLED, FAR * FAR, *[FAR] * (AGREEING - 1)])
    assert mark.now_us == FAR


@pytest.mark.parametrize("wrong", [FAR, 0])
def test_a_wrong_clock_that_was_heard_first_is_replaced(wrong: int) -> None:
    mark = after([wrong, *range(1_000, 1_000 + AGREEING)])
    assert mark.now_us == 1_000 + AGREEING - 1


def test_right_and_wrong_clocks_in_turn_from_the_start_settle_on_the_right_one() -> None:
    mark = after([time for n in range(AGREEING) for time in (FAR, 1_000 + n)])
    assert mark.settled_us == 1_000 + AGREEING - 1


def test_a_record_that_mixes_a_wrong_clock_with_right_ones_settles_nothing_wrong() -> None:
    mark = after([FAR])
    mark.take(np.array([FAR, *range(1, AGREEING + 1)]))
    assert mark.settled_us != FAR


@given(st.lists(st.integers(0, 3 * REACH), min_size=1, max_size=60))
@example([111, 111, 111, 111, 111, 111, 12, 113, 113, 113, 112, 213, 213])
def test_it_never_goes_back_once_it_is_settled(times: list[int]) -> None:
    mark = after(SETTLED)
    for time in times:
        before = mark.now_us
        mark.take(np.array([time]))
        assert mark.now_us >= before


@given(st.lists(st.integers(0, FAR), max_size=30), st.lists(st.integers(0, FAR), max_size=30))
def test_it_goes_on_from_a_state(first: list[int], then: list[int]) -> None:
    mark = after(first)
    other = Watermark(REACH)
    other.restore(mark.state())
    assert after(then, other) == after(then, mark)
