"""What the monitor is fed: rows that were answered, and labels that became known, as columns."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN_US = -(2**62)
"""An event time before all others: nothing was seen yet."""


def key_of(text: str) -> int:
    """Returns a 63-bit number for a row's key. Two keys of a million rows collide once in 10^7."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def keys_of(texts: Iterable[str]) -> NDArray[np.int64]:
    """Returns `key_of` each text, faster: keys are most of what a row costs."""
    digests = [blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return (np.frombuffer(b"".join(digests), ">u8") >> 1).astype(np.int64)


def row_keys(texts: Sequence[str]) -> NDArray[np.int64]:
    """Returns the numbers of business keys; 0 for an empty one, which names no row."""
    is_named = np.fromiter(map(bool, texts), np.bool_, len(texts))
    return np.where(is_named, keys_of([f"k{text}" for text in texts]), 0)


def prediction_keys(requests: Iterable[tuple[str, int]]) -> NDArray[np.int64]:
    """Returns the numbers of the rows of requests, each with its id and how many rows it has."""
    return keys_of([f"p{named}/{row}" for named, rows in requests for row in range(rows)])


def prediction_key(prediction_id: str, row: int) -> int:
    """Returns the number of one row of a request."""
    return key_of(f"p{prediction_id}/{row}")


@dataclass(frozen=True, slots=True)
class Answers:
    """Rows that one version answered, in the order of the topic.

    Args:
        version: Who answered.
        is_challenger: It answered callers as the challenger of a rollout.
        rollout: Number of the rollout that asked again; 0 for answers that callers got.
        keys: [n] of (prediction id, row).
        row_keys: [n] of business keys; 0 for none.
        event_time_us: [n].
        scores: [n], probability of the label.
        columns: Inputs by name, [n] each; empty for answers that nobody got.
        requests: Requests that these rows came in.
        omitted: Further requests that were answered and not recorded.
    """

    version: int
    is_challenger: bool
    rollout: int
    keys: NDArray[np.int64]
    row_keys: NDArray[np.int64]
    event_time_us: NDArray[np.int64]
    scores: NDArray[np.float64]
    columns: Mapping[str, NDArray[Any]]
    requests: int = 0
    omitted: int = 0

    def only(self, chosen: NDArray[np.bool_]) -> "Answers":
        """Returns the rows of a mask [n]."""
        if chosen.all():
            return self
        return replace(
            self,
            keys=self.keys[chosen],
            row_keys=self.row_keys[chosen],
            event_time_us=self.event_time_us[chosen],
            scores=self.scores[chosen],
            columns={name: column[chosen] for name, column in self.columns.items()},
        )


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels that became known, in the order of the topic.

    Args:
        keys: [n] of a business key, or of (prediction id, row).
        values: [n], 0 or 1.
        event_time_us: [n], when each became known.
    """

    keys: NDArray[np.int64]
    values: NDArray[np.float64]
    event_time_us: NDArray[np.int64]
