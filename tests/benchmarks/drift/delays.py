"""Part `delays`: the limit, ours and other libraries, at equal measured run length."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from tests.benchmarks.drift import arms, peers, store, streams
from tests.benchmarks.drift.figures import Figure, Target
from tests.benchmarks.drift.run_length import Curve, Delay, curve, delay_at
from tests.benchmarks.drift.store import Job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from tests.benchmarks.drift.sizes import Size

Key = tuple[str, int]
"""A method and a wanted run length."""

Alarms = dict[str, Any]
"""First alarms on streams of one name. Shape (R, K, P) each."""

PART = "delay at run length"

SHARD = 10
"""References a job takes."""

PEER_RUN_LENGTH = 1_000
TARGET = ("RankBank, m 50,000", 10_000)
"""What the targets are about."""

OVER_LIMIT = {
    "mean +.25": Target(1.7, 1.5),
    "mean +.5": Target(1.5, 1.3),
    "mean +1": Target(1.5, 1.3),
    "sd x1.5": Target(1.5, 1.3),
    "5 % from N(4,1)": Target(2.2, 1.6),
}
OVER_BEST = Target(1.1, 1.0)


def jobs(size: Size) -> list[Job]:
    """First alarms of all methods, on the same streams."""
    counts = {"null": size.nulls, "changed": size.changed}
    made = []
    for numbers in _shards(size.references):
        for length in size.run_lengths:
            given: tuple[Any, ...] = (length, numbers, counts)
            made.append(_job(arms.LIMIT, length, numbers, arms.watch_limit, given))
            for rows in size.reference_rows:
                given = (rows, length, numbers, counts)
                made.append(_job(ours(rows), length, numbers, arms.watch_ours, given))
    counts = {"null": size.nulls, "changed": size.peer_changed}
    for library, methods in peers.METHODS.items():
        for numbers in _shards(size.peers.get(library, 0)):
            for method in methods:
                given = (method, PEER_RUN_LENGTH, numbers, counts)
                made.append(_job(method, PEER_RUN_LENGTH, numbers, arms.watch_peer, given))
    return made


def ours(reference_rows: int) -> str:
    """What our method is called at so many rows of reference."""
    return f"{arms.OURS}, m {reference_rows:,}"


def alarms_of(found: Mapping[str, dict[str, Any]]) -> dict[Key, Alarms]:
    """First alarms by method and wanted run length: by stream, references in order."""
    shards: dict[Key, list[dict[str, Any]]] = {}
    for name, answer in found.items():
        method, length, _ = name.split(" | ")
        shards.setdefault((method, int(length)), []).append(answer)
    return {
        key: {
            name: np.concatenate([np.array(answer[name]) for answer in answers])
            for name in answers[0]
            if name != "parameters"
        }
        for key, answers in shards.items()
    }


def curves(alarms: Alarms, length: int) -> dict[str, Curve]:
    """Delay against run length, by change; a change may have nulls of its own."""
    return {
        change: curve(
            _flat(alarms.get(f"null {change}", alarms.get("null"))),
            streams.NULL_LENGTHS * length,
            _flat(alarms[change]),
            streams.PREFIX_ROWS + streams.CHANGED_ROWS,
        )
        for change in streams.CHANGES
    }


def figures(found: Mapping[str, dict[str, Any]]) -> list[Figure]:
    """Delays; ours over the limit and over the best of the others."""
    alarms = alarms_of(found)
    at = {key: _delays(measured, key[1]) for key, measured in alarms.items()}
    told = [
        Figure(f"{PART} {length:,}", f"{method}: {change}", *delay.told)
        for (method, length), by_change in at.items()
        for change, delay in by_change.items()
    ]
    return told + _over_limit(at) + _over_best(alarms)


def plot(found: Mapping[str, dict[str, Any]]) -> list[tuple[str, dict[str, Curve]]]:
    """Curves of each method, one for each run length that was wanted."""
    return [(key[0], curves(alarms, key[1])) for key, alarms in alarms_of(found).items()]


def _delays(alarms: Alarms, length: int) -> dict[str, Delay]:
    return {change: delay_at(c, length) for change, c in curves(alarms, length).items()}


def _flat(alarms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Streams of all references, one after the other. Shape (S, P)."""
    return alarms.reshape(-1, alarms.shape[-1])


def _over_limit(at: Mapping[Key, Mapping[str, Delay]]) -> list[Figure]:
    return [
        Figure(
            "delay over the limit",
            f"{method}, run length {length:,}: {change}",
            *delay.over(at[arms.LIMIT, length][change]),
            target=OVER_LIMIT[change] if (method, length) == TARGET else None,
        )
        for (method, length), by_change in at.items()
        if method.startswith(arms.OURS)
        for change, delay in by_change.items()
    ]


def _over_best(alarms: Mapping[Key, Alarms]) -> list[Figure]:
    """Ours over the fastest of River and alibi-detect, on the same references and streams."""
    mine = alarms.get((ours(arms.PEER_REFERENCE_ROWS), PEER_RUN_LENGTH))
    pairs: dict[str, tuple[dict[str, Delay], dict[str, Delay]]] = {}
    for method in (*peers.METHODS["River"], *peers.METHODS["alibi-detect"]):
        theirs = alarms.get((method, PEER_RUN_LENGTH))
        if mine is None or theirs is None:
            continue
        same = {name: mine[name][: len(a), : a.shape[1]] for name, a in theirs.items()}
        pairs[method] = (_delays(same, PEER_RUN_LENGTH), _delays(theirs, PEER_RUN_LENGTH))
    told = []
    for change in streams.CHANGES if pairs else ():
        known = {m: theirs[change].rows or math.inf for m, (_, theirs) in pairs.items()}
        best = min(known, key=lambda method: known[method])
        same, theirs = (delays[change] for delays in pairs[best])
        name = f"{change}: best is {best}"
        if same.rows is not None and theirs.rows is None:
            name, figure = f"{change}: all others missed it", (0.0, "", None, "")
        else:
            figure = same.over(theirs)
        told.append(Figure("delay over the best other", name, *figure, OVER_BEST))
    return told


def _job(method: str, length: int, numbers: range, function: Any, given: tuple[Any, ...]) -> Job:
    name = f"{method} | {length} | references {numbers.start} to {numbers.stop - 1}"
    return Job(name, function, given, store.PEERS if function is arms.watch_peer else store.OURS)


def _shards(count: int) -> list[range]:
    return [range(start, min(start + SHARD, count)) for start in range(0, count, SHARD)]
