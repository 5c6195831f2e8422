"""The one error of this library: an input that no statistic can be computed from."""

from __future__ import annotations


class DriftInputError(ValueError):
    """An argument or a batch that is refused; nothing was changed.

    Args:
        what: The argument or column, as the caller named it.
        found: What it holds, and where (row or block number).
        expected: What it should hold, and what to do about it.
    """

    def __init__(self, what: str, found: str, expected: str) -> None:
        super().__init__(f"{what}: {found}; expected {expected}")
        self.what = what
        self.found = found
        self.expected = expected
