"""The monitor as a process of its own, which may be told to die at a record or at a finding."""

import os
import signal
import sys
from typing import Any

from ciclo_monitor.adapters.journal import SqliteJournal
from ciclo_monitor.app import build
from ciclo_monitor.handlers import Monitor
from ciclo_monitor.settings import Settings
from ciclo_runtime.lifecycle import run


def main(environment: dict[str, str], log: str, dies_at: str) -> None:
    """The body of a process.

    Args:
        environment: What the service is told.
        log: File that its log is added to.
        dies_at: `predictions:137` for the first record of a topic from an offset on, after it was
            taken in; the name of a finding, after it was told; empty to live.
    """
    os.environ.update(environment)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), sys.stderr.fileno())
    if dies_at:
        _die_at(dies_at)
    run(build, Settings)


def _die_at(moment: str) -> None:
    what, _, offset = moment.partition(":")
    take, tell = Monitor._take, SqliteJournal._tell

    async def taken(self: Monitor, topic: str, at: int, *rest: Any) -> None:
        await take(self, topic, at, *rest)
        if offset and topic.split(".")[2] == what and at >= int(offset):
            os.kill(os.getpid(), signal.SIGKILL)

    async def told(self: SqliteJournal, model: str, finding: Any) -> None:
        await tell(self, model, finding)
        if type(finding).__name__ == what:
            os.kill(os.getpid(), signal.SIGKILL)

    Monitor._take, SqliteJournal._tell = taken, told
