"""What is concluded from calls, before programs are killed for it."""

import math

import pytest
from tests.chaos.callers import Call, Outage, most_at_once, outages


def calls(answers, caller="tensor 0"):
    """One call a second; it takes half of one."""
    return [
        Call(caller, "id" if answer else "", float(second), second + 0.5)
        for second, answer in enumerate(answers)
    ]


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([1, 1, 1], []),
        ([1, 0, 0, 1], [Outage(1.0, 1.5, 3.5)]),
        ([0, 1, 0, 1], [Outage(0.0, 0.5, 1.5), Outage(2.0, 2.5, 3.5)]),
        ([1, 0, 0], [Outage(1.0, 1.5, math.inf)]),
    ],
)
def test_an_outage_ends_with_an_answer_or_never(answers, found):
    assert outages(calls(answers)) == found


def test_another_callers_answer_ends_no_outage():
    mixed = sorted([*calls([0, 0]), *calls([1, 1], "tensor 1")], key=lambda call: call.ended)

    assert outages(mixed) == [Outage(0.0, 0.5, math.inf)]


def test_calls_of_two_callers_overlap():
    assert most_at_once([]) == 0
    assert most_at_once(calls([1, 1])) == 1
    assert most_at_once([*calls([1, 1]), *calls([1, 0], "tensor 1")]) == 2
