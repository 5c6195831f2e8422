"""Cells: how a number or a category becomes one of a few hundred small integers."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from ciclo_drift.errors import DriftInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_ROWS = 100
"""Rows below which there is no reference."""

LABELS = 48
"""Categories with a cell of their own: the most frequent ones."""

BUCKETS = 12
"""Cells that share the rarer categories, by hash: a cell for each would eat the budget."""

CATEGORY_CELLS = LABELS + BUCKETS + 2
"""Cells of a categorical sketch: missing, frequent values, buckets, unseen."""

SEEN_BITS = 16_384
"""Bits that remember which rare categories occurred. With 1,000 of them 6 % of unseen ones pass
for seen; their names are not kept."""

MAX_ATOMS = 64
"""Repeated values with a cell of their own."""


def numeric_edges(values: NDArray[np.float64], cells: int, name: str) -> NDArray[np.float64]:
    """Chooses the inner edges between cells of a numeric stream.

    Repeated values get a cell of their own, the rest is cut at quantiles that are equidistant as
    normal scores, so that the tails, which tell most, are cut finely; values below the smallest
    and above the largest have a cell each.

    Args:
        values: The reference. Shape (m,), NaN = missing.
        cells: Cells, without those for missing values and beyond the extremes. >= 8.
        name: The column, for errors.

    Returns:
        Ascending edges. Shape (<= cells + 1,). Cell i + 1 is [edges[i - 1], edges[i]).

    Raises:
        DriftInputError: All values are missing, or all the same.
    """
    present = values[~np.isnan(values)]
    unique, counts = np.unique(present, return_counts=True)
    if len(unique) == 0:
        raise DriftInputError(name, "missing values only", "numbers; leave the column out")
    if len(unique) == 1:
        raise DriftInputError(
            name, f"one value only, {unique[0]:g}", "values that vary; watch it as a category"
        )
    after = np.nextafter(unique[-1], np.inf)
    if len(unique) <= cells:
        middle = unique[:-1] / 2.0 + unique[1:] / 2.0
        return np.unique(np.concatenate([[unique[0]], middle, [after]]))
    common = np.argsort(-counts, kind="stable")[:MAX_ATOMS]
    atoms = unique[common[counts[common] > 2 * len(present) / cells]]
    spread = present[~np.isin(present, atoms)]
    # Each atom takes two edges; quantiles share what is left.
    inner = ndtr(np.linspace(-4.0, 4.0, max(cells - 2 * len(atoms), 2) + 1))[1:-1]
    cuts = np.quantile(spread, inner, method="lower")
    return np.unique(
        np.concatenate([[unique[0]], cuts, atoms, np.nextafter(atoms, np.inf), [after]])
    )


def as_numbers(values: object, name: str) -> NDArray[np.float64]:
    """Values as numbers, NaN = missing. Shape (n,).

    Raises:
        DriftInputError: Not numbers, or not one-dimensional.
    """
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DriftInputError(name, f"values that are not numbers ({error})", "numbers") from error
    if numbers.ndim != 1:
        raise DriftInputError(name, f"shape {numbers.shape}", "one dimension")
    return numbers


def numeric_codes(values: object, edges: NDArray[np.float64], name: str) -> NDArray[np.int16]:
    """Cells of numbers: 0 for missing, then from low to high. Shape (n,).

    Raises:
        DriftInputError: Not numbers, or not one-dimensional.
    """
    numbers = as_numbers(values, name)
    codes = np.searchsorted(edges, numbers, side="right") + 1
    return np.where(np.isnan(numbers), 0, codes).astype(np.int16)


def as_texts(values: object, name: str) -> NDArray[np.str_]:
    """Categories as text; None, NaN and "" are missing, and "". Shape (n,).

    Raises:
        DriftInputError: Not one-dimensional.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise DriftInputError(name, f"shape {array.shape}", "one dimension")
    if array.dtype.kind == "U":
        return array
    if array.dtype.kind == "O":
        return np.array(["" if is_missing(v) else str(v) for v in array], dtype=np.str_)
    return array.astype(np.str_)


def is_missing(value: object) -> bool:
    """Whether a value is None, NaN, or pandas' NA, which is not even true or false."""
    try:
        return value is None or bool(value != value)
    except TypeError:
        return True


def hash_of(text: str) -> int:
    """A stable 32-bit hash of a category."""
    return zlib.crc32(text.encode())


def category_codes(
    texts: NDArray[np.str_], labels: tuple[str, ...], seen: NDArray[np.bool_]
) -> NDArray[np.int16]:
    """Cells of categories: 0 missing, 1..48 labels, 49..60 buckets, 61 unseen. Shape (n,).

    Args:
        texts: What `as_texts` made. Shape (n,).
        labels: The most frequent categories, <= 48.
        seen: Which hashes of rarer ones occurred in the reference. Shape (SEEN_BITS,).
    """
    place = {label: i + 1 for i, label in enumerate(labels)} | {"": 0}
    unique, inverse = np.unique(texts, return_inverse=True)
    codes = np.empty(len(unique), dtype=np.int16)
    for i, text in enumerate(unique):
        code = place.get(str(text))
        if code is None:
            hashed = hash_of(str(text))
            known = bool(seen[hashed % SEEN_BITS])
            # The quotient, so that the bucket does not follow from the bit.
            code = LABELS + 1 + hashed // SEEN_BITS % BUCKETS if known else LABELS + BUCKETS + 1
        codes[i] = code
    return codes[inverse]


def left_out_codes(
    texts: NDArray[np.str_], labels: tuple[str, ...], seen: NDArray[np.bool_]
) -> NDArray[np.int16]:
    """Cells of the reference's own rows, each as if it had not been in the reference. Shape (n,).

    A rare category that occurs once would then be unseen. Without this, nothing in the reference
    is ever unseen, and of 3,000 categories enough new ones come to give 60 times the budget.

    Reference:
        I. J. Good, "The population frequencies of species and the estimation of population
        parameters", Biometrika 40 (1953).
    """
    codes = category_codes(texts, labels, seen)
    unique, inverse, counts = np.unique(texts, return_inverse=True, return_counts=True)
    bits = np.array([hash_of(str(text)) % SEEN_BITS for text in unique])
    rare = ~np.isin(unique, np.array(["", *labels]))
    shared = np.bincount(bits[rare], minlength=SEEN_BITS)[bits] > 1
    alone = (rare & (counts == 1) & ~shared)[inverse]
    return np.where(alone, LABELS + BUCKETS + 1, codes).astype(np.int16)


def frequent_labels(texts: NDArray[np.str_]) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    """The most frequent categories, and the bits of the rarer ones that occurred."""
    unique, counts = np.unique(texts[texts != ""], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    labels = tuple(str(text) for text in unique[order[:LABELS]])
    seen = np.zeros(SEEN_BITS, dtype=np.bool_)
    seen[[hash_of(str(text)) % SEEN_BITS for text in unique[order[LABELS:]]]] = True
    return labels, seen


def as_column(values: NDArray[np.generic], name: str) -> NDArray[np.generic]:
    """Returns a reference column as it is.

    Raises:
        DriftInputError: Not one-dimensional, or fewer than `LEAST_ROWS` rows.
    """
    if values.ndim != 1:
        raise DriftInputError(name or "values", f"shape {values.shape}", "one dimension")
    if len(values) < LEAST_ROWS:
        raise DriftInputError(name or "values", f"{len(values)} rows", f"at least {LEAST_ROWS}")
    return values
