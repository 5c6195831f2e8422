"""The compiled loops and those in NumPy decide the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciclo_drift import StreamSet, bank
from ciclo_drift.engine import kernels, rowwise

ROWS = 600


def world(seed: int, shift: float) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)

    def columns(rows: int, moved: float) -> dict[str, np.ndarray]:
        shares = [0.5, 0.3 - moved / 9, 0.2, moved / 9]
        speed = rng.normal(moved, 1.0, rows)
        speed[rng.random(rows) < 0.05] = np.nan
        return {
            "speed": speed,
            "delay": np.maximum(rng.exponential(1.0, rows).round(1), 0.2),
            "carrier": rng.choice(["AA", "B6", "UA", ""], rows, p=shares),
        }

    return columns(1_500, 0.0), columns(ROWS, shift)


def play(seed: int, shift: float, engine: object) -> tuple[StreamSet, list[float]]:
    reference, live = world(seed, shift)
    streams = StreamSet.fit(reference, budget_rows=2_000, seed=seed)
    evidence = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bank, "ENGINE", engine)
        for first in range(0, ROWS, 50):
            streams.update({name: column[first : first + 50] for name, column in live.items()})
            evidence.append(streams.evidence)
    return streams, evidence


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.8]))
def test_both_engines_raise_the_same_alarm(seed: int, shift: float) -> None:
    compiled, evidence = play(seed, shift, kernels)
    plain, same = play(seed, shift, rowwise)
    np.testing.assert_allclose(evidence, same, rtol=1e-9)
    assert (compiled.alarm is None) == (plain.alarm is None)
    if compiled.alarm and plain.alarm:
        assert compiled.alarm.row == plain.alarm.row
        for ours, theirs in zip(compiled.alarm.culprits, plain.alarm.culprits, strict=True):
            assert (ours.stream, ours.since_row, ours.change, ours.category) == (
                theirs.stream, theirs.since_row, theirs.change, theirs.category,
            )  # fmt: skip


def test_a_shift_is_found_by_either() -> None:
    assert play(7, 0.8, rowwise)[0].alarm
    assert play(7, 0.8, kernels)[0].alarm


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=50))
def test_both_engines_find_the_cells_that_a_search_finds(values: list[float]) -> None:
    edges = np.full((1, 511), np.inf)
    edges[0, :5] = [-1e300, -1.0, 0.0, 0.5, 1e300]
    column = np.array([values])
    wanted = np.where(np.isnan(column), 0, np.searchsorted(edges[0, :5], column, side="right") + 1)
    assert (kernels.cells_of(column, edges) == wanted).all()
    assert (rowwise.cells_of(column, edges) == wanted).all()
