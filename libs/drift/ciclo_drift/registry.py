"""The detectors of this library, in the form in which the conformance suite feeds them all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from scipy.special import ndtri

from ciclo_drift.arrivals import ArrivalBank
from ciclo_drift.block_mean import BlockMeanTest
from ciclo_drift.joint import JointBank
from ciclo_drift.pairs import PairedComparison, Verdict
from ciclo_drift.rank_bank import RankBank
from ciclo_drift.reference import Reference
from ciclo_drift.stream_set import StreamSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ciclo_drift.snapshots import Snapshot


class Detector(Protocol):
    """What every detector can do, besides taking rows in its own way."""

    def reset(self) -> None:
        """Starts anew; settings and reference stay."""

    def snapshot(self) -> Snapshot:
        """Returns settings, reference and state."""

    @classmethod
    def restore(cls, snapshot: Snapshot) -> Self:
        """Returns the detector that `snapshot` was taken from."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A detector and how to try it on a stream of standard normal numbers.

    Args:
        name: Its name in test reports.
        build: Makes it from reference numbers, shape (m,), and a seed.
        feed: Gives it a batch, shape (n,), and returns whether it has alarmed.
        evidence: What it shows now: a number that determines its next decisions.
        reference_rows: Numbers that `build` wants.
        null_rows: Length of a stream without a change.
        null_share: Share of such streams that may alarm.
        shift: Shift of the mean that it must find.
        power_rows: Numbers after the shift within which it must, nine times in ten.
        most_bytes: Size of its snapshot, at most.
    """

    name: str
    build: Callable[[NDArray[np.float64], int], Detector]
    feed: Callable[[Detector, NDArray[np.float64]], bool]
    evidence: Callable[[Detector], float]
    reference_rows: int
    null_rows: int
    null_share: float
    shift: float
    power_rows: int
    most_bytes: int = 100_000


SEASON = 4
"""Phases of the season that the conformance suite plays."""


def _as_category(values: NDArray[np.float64]) -> NDArray[np.str_]:
    """Three categories of shares .6, .3 and .1."""
    cuts = np.searchsorted(np.array([0.253, 1.282]), values)
    return np.array(["a", "b", "c"])[cuts]


def _as_columns(values: NDArray[np.float64]) -> dict[str, NDArray[np.generic]]:
    """Three streams, two of which depend on each other."""
    return {"x": values, "square": values**2, "grade": _as_category(values)}


def _feed_bank(detector: Detector, values: NDArray[np.float64]) -> bool:
    assert isinstance(detector, RankBank)
    detector.update(values)
    return detector.alarm is not None


def _feed_categories(detector: Detector, values: NDArray[np.float64]) -> bool:
    assert isinstance(detector, RankBank)
    detector.update(_as_category(values))
    return detector.alarm is not None


def _feed_set(detector: Detector, values: NDArray[np.float64]) -> bool:
    assert isinstance(detector, StreamSet)
    detector.update(_as_columns(values))
    return detector.alarm is not None


def _feed_season(detector: Detector, values: NDArray[np.float64]) -> bool:
    assert isinstance(detector, StreamSet)
    phases = (detector.rows + np.arange(len(values))) % SEASON
    detector.update(_as_columns(values + 3.0 * phases), phases)
    return detector.alarm is not None


def _fit_season(values: NDArray[np.float64], seed: int) -> StreamSet:
    phases = np.arange(len(values)) % SEASON
    columns = _as_columns(values + 3.0 * phases)
    return StreamSet.fit(columns, phases=phases, budget_rows=2_000, sums=True, seed=seed)


def _as_vectors(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Eight dimensions, the first of which is watched for the shift; the others follow by bits."""
    phases = np.abs(values[:, None]) * 10.0 ** np.arange(3, 10) % 1.0
    rest = np.asarray(ndtri(np.clip(phases, 1e-6, 1.0 - 1e-6)))
    return np.concatenate([values[:, None], rest], axis=1)


def _feed_joint(detector: Detector, values: NDArray[np.float64]) -> bool:
    assert isinstance(detector, JointBank)
    detector.update(_as_vectors(values))
    return detector.alarm is not None


def _event_times(values: NDArray[np.float64], first: int) -> NDArray[np.float64]:
    """Some thirty events a minute, in minutes counted from `first`."""
    counts = np.maximum(np.round(30.0 + 5.0 * values), 0.0).astype(np.int64)
    return np.repeat(60.0 * (first + np.arange(len(values))) + 30.0, counts)


def _fit_arrivals(values: NDArray[np.float64], seed: int) -> ArrivalBank:
    ends = np.array([-30.0, 60.0 * len(values) + 30.0])
    times = np.concatenate([_event_times(values, 0), ends])
    return ArrivalBank.fit(times, bucket_seconds=60.0, budget_buckets=2_000, seed=seed)


def _feed_arrivals(detector: Detector, values: NDArray[np.float64]) -> bool:
    assert isinstance(detector, ArrivalBank)
    detector.update(_event_times(values, detector.next_bucket))
    detector.advance(60.0 * (detector.next_bucket + len(values)))
    return detector.alarm is not None


def _feed_block_mean(detector: Detector, values: NDArray[np.float64]) -> bool:
    assert isinstance(detector, BlockMeanTest)
    for value in values:
        detector.update(100.0 * value, 100)
    return detector.judge().alarm


def _feed_pairs(detector: Detector, values: NDArray[np.float64]) -> bool:
    assert isinstance(detector, PairedComparison)
    for value in values:
        detector.update(100.0 * value, 100)
    return detector.judge().verdict in {Verdict.BETTER, Verdict.WORSE}


def _evidence(detector: Detector) -> float:
    assert isinstance(detector, RankBank | StreamSet | JointBank | ArrivalBank)
    return detector.evidence


def _rise(detector: Detector) -> float:
    assert isinstance(detector, BlockMeanTest)
    return detector.judge().evidence


def _lower(detector: Detector) -> float:
    assert isinstance(detector, PairedComparison)
    return detector.judge().lower


DETECTORS: tuple[Registration, ...] = (
    Registration(
        "RankBank of numbers",
        lambda values, seed: RankBank(Reference.numeric(values), budget_rows=2_000, seed=seed),
        _feed_bank,
        _evidence,
        reference_rows=2_000,
        null_rows=1_000,
        null_share=0.394,
        shift=1.0,
        power_rows=60,
    ),
    Registration(
        "RankBank of categories",
        lambda values, seed: RankBank(
            Reference.categorical(_as_category(values)), budget_rows=2_000, seed=seed
        ),
        _feed_categories,
        _evidence,
        reference_rows=2_000,
        null_rows=1_000,
        null_share=0.394,
        shift=1.0,
        power_rows=150,
    ),
    Registration(
        "StreamSet",
        lambda values, seed: StreamSet.fit(_as_columns(values), budget_rows=2_000, seed=seed),
        _feed_set,
        _evidence,
        reference_rows=2_000,
        null_rows=1_000,
        null_share=0.394,
        shift=1.0,
        power_rows=80,
    ),
    Registration(
        "StreamSet with a season and sums",
        _fit_season,
        _feed_season,
        _evidence,
        reference_rows=2_000,
        null_rows=1_000,
        null_share=0.394,
        shift=1.0,
        power_rows=100,
    ),
    Registration(
        "JointBank",
        lambda values, seed: JointBank.fit(_as_vectors(values), budget_rows=2_000, seed=seed),
        _feed_joint,
        _evidence,
        reference_rows=2_000,
        null_rows=1_000,
        null_share=0.394,
        shift=1.0,
        power_rows=120,
        most_bytes=400_000,
    ),
    Registration(
        "ArrivalBank",
        _fit_arrivals,
        _feed_arrivals,
        _evidence,
        reference_rows=2_000,
        null_rows=1_000,
        null_share=0.394,
        shift=1.0,
        power_rows=60,
    ),
    Registration(
        "BlockMeanTest",
        lambda values, _: BlockMeanTest(100 * values, np.full(len(values), 100), budget_blocks=100),
        _feed_block_mean,
        _rise,
        reference_rows=10,
        null_rows=50,
        null_share=0.394,
        shift=2.0,
        power_rows=30,
    ),
    Registration(
        "PairedComparison",
        lambda _values, _seed: PairedComparison(clip=5.0),
        _feed_pairs,
        _lower,
        reference_rows=0,
        null_rows=60,
        null_share=0.05,
        shift=0.8,
        power_rows=40,
    ),
)
"""All of them. `null_share` is what the budget allows: 1 - exp(-null_rows / budget), or alpha."""
