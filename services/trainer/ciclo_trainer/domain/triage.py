"""Broken input: a model must not learn that a sensor was switched off."""

from collections.abc import Mapping
from dataclasses import dataclass

RECENT_SHARE = 0.1
"""The newest tenth of the rows is held against the rest."""

MISSING_JUMP = 0.5
"""An input that is missing in so much more of the newest rows broke; the world does not do that."""


@dataclass(frozen=True, slots=True)
class Missing:
    """How often an input is missing. Shares in [0, 1].

    Args:
        before: Among the older rows.
        recently: Among the newest rows.
    """

    before: float
    recently: float


def broken_inputs(missing: Mapping[str, Missing]) -> tuple[str, ...]:
    """Returns the inputs that broke, by name.

    Example:
        >>> broken_inputs({"wind": Missing(0.01, 0.9), "visibility": Missing(0.6, 0.7)})
        ('wind',)
    """
    return tuple(
        sorted(name for name, m in missing.items() if m.recently - m.before >= MISSING_JUMP)
    )
