"""What followed the rows: the model's loss on each, and what kind of change labels show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift.backtest.tables import as_category, is_missing
from ciclo_drift.errors import DriftInputError
from ciclo_drift.kinds import LabelTable
from ciclo_drift.losses import log_loss

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ciclo_drift.alarms import Kind
    from ciclo_drift.backtest.roles import Roles, Tables

JUDGED_ROWS = 2_000
"""Rows since a change whose labels and values say what kind it is and how it looks."""

WORDS = {"false": 0.0, "true": 1.0, "0": 0.0, "1": 1.0}
"""Texts that are labels of two classes."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Losses of both tables and what tells kinds of change apart.

    Args:
        loss: What the loss is: `log loss`, `absolute error` or `error`.
        before: Losses of the reference, NaN = unknown. Shape (m,).
        now: Losses of the stream. Shape (n,).
        table: Counts of the reference; None where no kind can be told.
        answers: Scores or predictions of the stream, and labels. Shape (n,) each.
    """

    loss: str
    before: NDArray[np.float64]
    now: NDArray[np.float64]
    table: LabelTable | None
    answers: tuple[NDArray[np.float64], NDArray[np.float64]] | None

    def kind_since(self, row: int, least: int = 0) -> Kind | None:
        """What the labels of `JUDGED_ROWS` rows from this one on say, of `least` rows at least."""
        return self.kind(slice(row, row + max(JUDGED_ROWS, least)))

    def kind(self, rows: slice) -> Kind | None:
        """What the labels of these rows of the stream say; None where they say nothing."""
        if self.table is None or self.answers is None:
            return None
        self.table.reset()
        self.table.update(*(values[rows] for values in self.answers))
        return self.table.kind()


def outcome_of(tables: Tables, roles: Roles, notes: list[str]) -> Outcome | None:
    """Losses, where there are labels and something that foretold them.

    With a score, log loss; with a prediction of numbers, absolute error; of classes, error (0, 1).

    Args:
        tables: Both tables.
        roles: Names of the columns.
        notes: Takes why there are no losses or no kinds.

    Raises:
        DriftInputError: Labels beside a score that are not 0 or 1, or a score that is none.
    """
    before, now = tables.reference.label, tables.stream.label
    blocks = tables.reference.blocks
    answer = roles.score or roles.prediction
    if before is None or now is None:
        return None
    if answer is None or answer not in tables.reference.streams:
        notes.append(f"{roles.label}: no score or prediction to compare it with, so no losses")
        return None
    if is_missing(before).all():
        notes.append(f"{roles.label} has no value in the reference: no losses, no kind of change")
        return None
    if is_missing(now).all():
        notes.append(f"{roles.label} has no value in the stream: nothing is known of its losses")
    foretold = [side.streams[answer] for side in (tables.reference, tables.stream)]
    if roles.score is not None:
        return _of_scores(foretold, [before, now], roles, blocks, notes)
    if any(values.dtype == object for values in foretold):
        wrong = [_error(p, y) for p, y in zip(foretold, (before, now), strict=True)]
        notes.append("the kind of change is not told for classes without a score")
        return Outcome("error", wrong[0], wrong[1], None, None)
    guess = [values.astype(np.float64) for values in foretold]
    truth = [_as_numbers(label, roles.label or "label") for label in (before, now)]
    losses = [np.abs(p - y) for p, y in zip(guess, truth, strict=True)]
    known = np.concatenate(truth)
    two_classes = bool(np.isin(known[~np.isnan(known)], (0.0, 1.0)).all())
    table = _table(guess[0], truth[0], blocks, notes, two_classes=two_classes)
    return Outcome("absolute error", losses[0], losses[1], table, (guess[1], truth[1]))


def _of_scores(
    foretold: list[NDArray[np.generic]],
    labels: list[NDArray[np.generic]],
    roles: Roles,
    blocks: NDArray[np.generic] | None,
    notes: list[str],
) -> Outcome:
    name = roles.score or "score"
    if foretold[0].dtype == object:
        raise DriftInputError(name, "text, or one value only", "probabilities of the label 1")
    truth = [_two_classes(label, roles.label or "label") for label in labels]
    score = [values.astype(np.float64) for values in foretold]
    low, high = float(np.nanmin(score[0])), float(np.nanmax(score[0]))
    if low < 0.0 or high > 1.0:
        found = f"from {low:g} to {high:g} in the reference"
        raise DriftInputError(name, found, "probabilities of the label 1, in [0, 1]")
    losses = [log_loss(s, y) for s, y in zip(score, truth, strict=True)]
    table = _table(score[0], truth[0], blocks, notes, two_classes=True)
    return Outcome("log loss", losses[0], losses[1], table, (score[1], truth[1]))


def _table(
    scores: NDArray[np.float64],
    labels: NDArray[np.float64],
    blocks: NDArray[np.generic] | None,
    notes: list[str],
    *,
    two_classes: bool,
) -> LabelTable | None:
    make = LabelTable.binary if two_classes else LabelTable.numeric
    try:
        return make(scores, labels, blocks)
    except DriftInputError as error:
        notes.append(f"the kind of change cannot be told ({error})")
        return None


def _two_classes(label: NDArray[np.generic], name: str) -> NDArray[np.float64]:
    """Labels as 0, 1 and NaN. Shape (n,)."""
    texts = as_category(label)
    known = np.array([WORDS.get(str(text).lower(), np.nan) for text in texts])
    odd = np.flatnonzero(np.isnan(known) & ~is_missing(texts))
    if len(odd):
        found = f"{texts[odd[0]]!r} at row {odd[0]}"
        expected = "0 and 1, or true and false; other labels go with `prediction` and no `score`"
        raise DriftInputError(name, found, expected)
    return known


def _as_numbers(label: NDArray[np.generic], name: str) -> NDArray[np.float64]:
    """Labels that are foretold as numbers. Shape (n,)."""
    return _two_classes(label, name) if label.dtype == object else label.astype(np.float64)


def _error(foretold: NDArray[np.generic], label: NDArray[np.generic]) -> NDArray[np.float64]:
    """1 where the class was another, NaN where either is missing. Shape (n,)."""
    foretold, label = as_category(foretold), as_category(label)
    wrong = (foretold != label).astype(np.float64)
    return np.where(is_missing(foretold) | is_missing(label), np.nan, wrong)
