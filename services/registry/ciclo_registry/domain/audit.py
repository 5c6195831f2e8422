"""The audit chain: each entry's hash covers the entry and the hash before it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime

GENESIS = "0" * 64
"""The hash before the first entry."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act or decision.

    Attributes:
        sequence: From 1, without gaps.
        create_time: Wall time. UTC.
        model: The model; empty: none.
        action: Name of the event or of the command.
        actor: Who or what decided.
        reason: Why, or what.
        event_id: The event that records it; empty: none.
        hash: Hexadecimal SHA-256 over all of the above and the hash before.
    """

    sequence: int
    create_time: datetime
    model: str
    action: str
    actor: str
    reason: str
    event_id: str = ""
    hash: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain ends; kept apart from it, so that a missing end is noticed.

    Attributes:
        sequence: Of the last entry; 0: none.
        hash: Of the last entry.
    """

    sequence: int = 0
    hash: str = GENESIS


def seal(entry: AuditEntry, before: str) -> AuditEntry:
    """Returns an entry with its hash.

    Example:
        >>> entry = AuditEntry(1, datetime(2013, 1, 1), "m", "RollBack", "ada", "worse")
        >>> seal(entry, GENESIS).hash[:8]
        '2faf66c8'
    """
    content = asdict(entry) | {"create_time": entry.create_time.isoformat(), "before": before}
    del content["hash"]
    # Canonical: sorted keys, no spaces, ASCII. Equal entries have equal bytes on every machine.
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return replace(entry, hash=hashlib.sha256(text.encode()).hexdigest())


def is_intact(entries: Sequence[AuditEntry], head: Head) -> bool:
    """Tells whether a whole chain is as it was written: nothing changed, removed or added."""
    before = GENESIS
    for position, entry in enumerate(entries, start=1):
        if entry.sequence != position or seal(entry, before).hash != entry.hash:
            return False
        before = entry.hash
    return Head(len(entries), before) == head
