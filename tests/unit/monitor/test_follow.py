"""The registry's news, and a process that dies while it hears them."""

from tests.unit.monitor import worlds as w

from ciclo_monitor.domain.findings import Judged
from ciclo_monitor.handlers import Monitor, Watched
from ciclo_monitor.metrics import MonitorMetrics
from ciclo_monitor.ports import Registered
from ciclo_runtime.clock import ManualClock


class Registry:
    """Says that a rollout began."""

    def models(self):
        return {"churn": Registered("sha256:loop", w.V1, w.ROLLOUT)}


class Journal:
    """Notes what it is asked for, in order."""

    def __init__(self):
        self.asked = []

    async def save(self, models, offsets):
        self.asked.append(("saved", dict(offsets)))

    async def tell(self, model, findings):
        self.asked += [("told", type(finding)) for finding in findings]

    async def state(self, statement):
        pass


async def test_what_was_read_before_the_registrys_news_is_saved_before_they_are_acted_on():
    journal = Journal()
    monitor = Monitor(
        Registry(),
        None,
        journal,
        metrics=MonitorMetrics(),
        clock=ManualClock(),
        most_rows=1_000_000,
    )
    monitor._watched["churn"] = Watched(w.monitor(), None, "sha256:loop")
    await monitor.take_answers("predictions", 7, "churn", w.answers(w.world(1)[0]))
    journal.asked.clear()

    await monitor.follow_registry()
    saved = ("saved", {"predictions": 8})
    assert journal.asked == [saved, ("told", Judged), saved]

    await monitor.follow_registry()
    assert len(journal.asked) == 3, "nothing new"
