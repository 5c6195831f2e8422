import random
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from ciclo_runtime.backoff import Backoff


@given(attempt=st.integers(1, 10_000), seed=st.integers())
def test_a_wait_lies_in_the_upper_half_below_its_ceiling_and_never_above_the_cap(
    attempt: int, seed: int
) -> None:
    backoff = Backoff(first=timedelta(seconds=1), factor=3, cap=timedelta(seconds=20))

    wait = backoff.delay(attempt, random.Random(seed))

    ceiling = min(timedelta(seconds=3 ** min(attempt - 1, 5)), backoff.cap)
    assert backoff.ceiling(attempt) == ceiling
    assert ceiling / 2 <= wait <= ceiling
