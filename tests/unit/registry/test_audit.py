"""The audit chain: any change to it is noticed."""

from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import hypothesis.strategies as st
from hypothesis import assume, given
from tests.unit.registry.examples import WALL

from ciclo_registry.domain.audit import GENESIS, AuditEntry, Head, is_intact, seal

Row = tuple[int, str, str, str, str, str]

texts = st.text(max_size=12)
contents = st.tuples(st.integers(0, 10**6), texts, texts, texts, texts, texts)


def chain(rows: list[Row]) -> tuple[list[AuditEntry], Head]:
    entries: list[AuditEntry] = []
    before = GENESIS
    for number, (seconds, *rest) in enumerate(rows, start=1):
        entry = AuditEntry(number, WALL + timedelta(seconds=seconds), *rest)
        entries.append(seal(entry, before))
        before = entries[-1].hash
    return entries, Head(len(entries), before)


@given(st.lists(contents, max_size=6))
def test_a_chain_as_it_was_written_is_intact(rows: list[Row]) -> None:
    assert is_intact(*chain(rows))


@given(st.lists(contents, min_size=1, max_size=6), st.data())
def test_a_change_to_any_field_of_any_entry_is_detected(
    rows: list[Row], data: st.DataObject
) -> None:
    entries, head = chain(rows)
    at = data.draw(st.integers(0, len(entries) - 1))
    name = data.draw(st.sampled_from([field.name for field in fields(AuditEntry)]))
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "sequence": st.integers(0, 20),
        "create_time": st.timedeltas().map(lambda delta: WALL + delta % timedelta(days=9)),
    }
    forged = data.draw(kinds.get(name, texts))
    assume(forged != getattr(entries[at], name))
    entries[at] = replace(entries[at], **{name: forged})
    assert not is_intact(entries, head)


@given(st.lists(contents, min_size=1, max_size=6), st.data())
def test_an_entry_that_is_missing_is_detected_also_at_the_end(
    rows: list[Row], data: st.DataObject
) -> None:
    entries, head = chain(rows)
    del entries[data.draw(st.integers(0, len(entries) - 1))]
    assert not is_intact(entries, head)


@given(st.lists(contents, min_size=2, max_size=6), st.data())
def test_an_entry_that_was_changed_and_sealed_anew_is_detected(
    rows: list[Row], data: st.DataObject
) -> None:
    entries, head = chain(rows)
    at = data.draw(st.integers(0, len(entries) - 1))
    before = entries[at - 1].hash if at else GENESIS
    entries[at] = seal(replace(entries[at], reason=entries[at].reason + "!"), before)
    assert not is_intact(entries, head)


@given(st.lists(contents, min_size=2, max_size=6), st.data())
def test_two_entries_that_changed_places_are_detected(rows: list[Row], data: st.DataObject) -> None:
    entries, head = chain(rows)
    at = data.draw(st.integers(0, len(entries) - 2))
    entries[at], entries[at + 1] = entries[at + 1], entries[at]
    assert not is_intact(entries, head)
