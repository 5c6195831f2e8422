"""What kind of change it is, from scores and the labels that followed them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift.alarms import Kind
from ciclo_drift.cells import LEAST_ROWS, as_numbers
from ciclo_drift.contingency import PARTS, Table, chance_of
from ciclo_drift.errors import DriftInputError
from ciclo_drift.snapshots import Snapshot, require_kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVEL = 0.01
"""Chance of each test to reject what holds."""

DOUBT = 0.03
"""Chance below which a test that does not reject leaves the question open."""

GIVEN_CELLS = 16
"""Cells of the number that is given: so fine that what is given moves little within one."""

RESPONSE_CELLS = 4
"""Cells of the number whose distribution is compared: so few that few rows will do."""

LEAST_LIVE = 500.0
"""Live rows over the design effect below which no kind is named: of fewer, a third of concept
changes (.8 in log odds) would pass for a change of the labels' shares."""


class LabelTable:
    """Tells covariate, label and concept change apart, by counts of scores and labels.

    Three tests of live rows against the reference: A, is the label, given the score, as before?
    B, is the score, given the label? C, are the shares of the labels? If A holds, the change is
    of kind `covariate`. If A fails, B holds and C fails: `label`. If A and B fail: `concept`.
    Each is a G-test between two samples, over the design effect where blocks are declared; it
    fails at level .01, holds at .03, and leaves it open in between. For numbers the residual
    stands for the label, given the prediction (A), and for the score, given the outcome (B). Feed
    it the rows since the change, once their labels are mature, and ask once: it is no detector.
    5 KB.

    Made by `binary` or `numeric`. Rows without a label or a score are left out. Live labels of one
    class are an answer like any other; without any live label there is none.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> scores = rng.random(20_000)
        >>> labels = rng.random(20_000) < scores
        >>> table = LabelTable.binary(scores, labels)
        >>> now = rng.random(1_000) ** 2
        >>> table.update(now, rng.random(1_000) < now)
        >>> table.kind().value
        'covariate'
        >>> table.reset()
        >>> table.update(now, rng.random(1_000) < now**2)
        >>> table.kind().value
        'concept'

    Reference:
        Z. C. Lipton, Y.-X. Wang, A. J. Smola, "Detecting and correcting for label shift with black
        box predictors", ICML (2018). J. N. K. Rao, A. J. Scott, "The analysis of categorical data
        from complex sample surveys", Journal of the American Statistical Association 76 (1981):
        dividing by the design effect.
    """

    KIND = "ciclo_drift.LabelTable/1"

    def __init__(self, by_score: Table, by_label: Table, share_effect: float, binary: bool) -> None:
        self._by_score, self._by_label = by_score, by_label
        self._share_effect = float(share_effect)
        self._binary = binary

    @classmethod
    def binary(
        cls, scores: object, labels: object, blocks: NDArray[np.generic] | None = None
    ) -> LabelTable:
        """Sketches scores of a classifier of two classes.

        Args:
            scores: Probability, or any number that rises with it, of label 1. Shape (m,).
            labels: 0 or 1, or booleans; NaN = unknown. Shape (m,), m >= 100.
            blocks: Time block of each row, for rows that depend on each other. Shape (m,).

        Raises:
            DriftInputError: Too few labelled rows, one class only, scores that do not vary, labels
                that are not 0 or 1, or shapes differ.
        """
        return cls._sketch(scores, labels, blocks, binary=True)

    @classmethod
    def numeric(
        cls, predictions: object, outcomes: object, blocks: NDArray[np.generic] | None = None
    ) -> LabelTable:
        """Sketches predictions of a number.

        Args:
            predictions: In the unit of the outcome. Shape (m,).
            outcomes: What came true; NaN = unknown. Shape (m,), m >= 100.
            blocks: As for `binary`.

        Raises:
            DriftInputError: Too few labelled rows, values that do not vary, or shapes differ.
        """
        return cls._sketch(predictions, outcomes, blocks, binary=False)

    @classmethod
    def _sketch(
        cls, scores: object, labels: object, blocks: NDArray[np.generic] | None, binary: bool
    ) -> LabelTable:
        known, score, label = _labelled(scores, labels, binary)
        if len(score) < LEAST_ROWS:
            raise DriftInputError("labels", f"{len(score)} known", f"at least {LEAST_ROWS}")
        for name, values in (("labels", label), ("scores", score)):
            if np.ptp(values) == 0.0:
                raise DriftInputError(name, f"all {values[0]:g}", "values that vary: both classes")
        block = None
        if blocks is not None:
            if np.shape(blocks) != known.shape:
                raise DriftInputError("blocks", f"shape {np.shape(blocks)}", f"shape {known.shape}")
            block = np.unique(np.asarray(blocks)[known], return_inverse=True)[1]
        classes = np.array([0.5])
        given = (_cuts(score, GIVEN_CELLS), classes if binary else _cuts(label, GIVEN_CELLS))
        responses = _responses(score, label, binary)
        cuts = [_cuts(values, RESPONSE_CELLS) for values in responses]
        edges = (classes if binary else cuts[0], cuts[1])
        by_score = Table.of(score, responses[0], (given[0], edges[0]), block)
        by_label = Table.of(label, responses[1], (given[1], edges[1]), block)
        shares = Table.of(np.zeros(len(label)), label, (np.empty(0), given[1]), block)
        return cls(by_score, by_label, shares.effect, binary)

    @property
    def rows(self) -> int:
        """Labelled live rows."""
        return int(self._by_score.now.sum())

    def update(self, scores: object, labels: object) -> None:
        """Takes live rows in any order.

        Args:
            scores: As for the reference. Shape (n,).
            labels: As for the reference. Shape (n,).

        Raises:
            DriftInputError: Labels that are not 0 or 1, not numbers, or shapes differ; nothing
                was counted.
        """
        _, score, label = _labelled(scores, labels, self._binary)
        responses = _responses(score, label, self._binary)
        self._by_score = self._by_score.plus(score, responses[0])
        self._by_label = self._by_label.plus(label, responses[1])

    def kind(self) -> Kind | None:
        """What the rows so far say; None while too few, or where the tests contradict each other.

        A change of neither scores nor labels is `covariate` too: ask after an alarm.
        """
        effect = max(self._by_score.effect, self._by_label.effect, self._share_effect)
        if self.rows < LEAST_LIVE * effect:
            return None
        given_score, given_label = self._by_score.chance(), self._by_label.chance()
        if given_score >= LEVEL:
            return Kind.COVARIATE if given_score >= DOUBT else None
        if given_label < LEVEL:
            return Kind.CONCEPT
        before, now = (counts.sum(axis=1)[None] for counts in self._by_label.counts)
        moved = chance_of(before, now, self._share_effect) < LEVEL
        return Kind.LABEL if moved and given_label >= DOUBT else None

    def merge(self, other: LabelTable) -> LabelTable:
        """Adds the rows, of the reference and live, of a table with the same cells.

        Raises:
            DriftInputError: The cells differ.
        """
        if self._binary != other._binary:
            raise DriftInputError("other", "labels of another kind", "labels as in this one")
        return LabelTable(
            self._by_score.merge(other._by_score),
            self._by_label.merge(other._by_label),
            max(self._share_effect, other._share_effect),
            self._binary,
        )

    def reset(self) -> None:
        """Forgets all live rows; the reference stays."""
        self._by_score, self._by_label = self._by_score.emptied(), self._by_label.emptied()

    def snapshot(self) -> Snapshot:
        """Returns reference and state; `restore` continues from it exactly."""
        return {
            "kind": np.array(self.KIND),
            "binary": np.array(self._binary),
            "share_effect": np.array(self._share_effect),
            **{f"score_{name}": array for name, array in self._by_score.snapshot().items()},
            **{f"label_{name}": array for name, array in self._by_label.snapshot().items()},
        }

    @classmethod
    def restore(cls, snapshot: Snapshot) -> LabelTable:
        """Returns the table that `snapshot` was taken from.

        Raises:
            DriftInputError: The snapshot is of something else.
        """
        require_kind(snapshot, cls.KIND)
        by_score, by_label = (
            Table.restore({part: snapshot[f"{name}_{part}"] for part in PARTS})
            for name in ("score", "label")
        )
        return cls(by_score, by_label, float(snapshot["share_effect"]), bool(snapshot["binary"]))


def _labelled(
    scores: object, labels: object, binary: bool
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Which rows have both, and these rows' scores and labels."""
    score, label = as_numbers(scores, "scores"), as_numbers(labels, "labels")
    if score.shape != label.shape:
        raise DriftInputError("labels", f"shape {label.shape}", f"shape {score.shape}")
    known = np.isfinite(score) & np.isfinite(label)
    other = np.flatnonzero(known & (label != 0.0) & (label != 1.0))
    if binary and len(other):
        raise DriftInputError("labels", f"{label[other[0]]:g} at row {other[0]}", "0 or 1, or NaN")
    return known, score[known], label[known]


def _responses(
    score: NDArray[np.float64], label: NDArray[np.float64], binary: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What is compared given the score, and given the label."""
    return (label, score) if binary else (label - score, label - score)


def _cuts(values: NDArray[np.float64], cells: int) -> NDArray[np.float64]:
    """Inner edges between cells of about equally many rows; fewer where values repeat."""
    return np.unique(np.quantile(values, np.linspace(0.0, 1.0, cells + 1)[1:-1]))
