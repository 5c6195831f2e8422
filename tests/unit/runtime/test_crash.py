import os
import signal
from enum import StrEnum

import pytest

from ciclo_runtime import crash
from ciclo_runtime.crash import RuntimeCrash, crash_point


class OwnCrash(StrEnum):
    HALF_WAY = "own.half_way"


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append(number))
    monkeypatch.setattr(crash, "_visits", {})
    return sent


def test_nothing_happens_where_no_crash_is_asked_for(
    kills: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(crash.VARIABLE, raising=False)
    crash_point(OwnCrash.HALF_WAY)
    monkeypatch.setenv(crash.VARIABLE, RuntimeCrash.OUTBOX_AFTER_SEND)
    crash_point(OwnCrash.HALF_WAY)

    assert kills == []


def test_a_crash_comes_at_the_visit_that_is_named(
    kills: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(crash.VARIABLE, "own.half_way:2")
    crash_point(OwnCrash.HALF_WAY)
    assert kills == []

    crash_point(OwnCrash.HALF_WAY)

    assert kills == [signal.SIGKILL]
