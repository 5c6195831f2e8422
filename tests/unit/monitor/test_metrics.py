"""Every metric of the monitor shows something once there is something to show."""

import pytest
from tests.unit.monitor import worlds as w

from ciclo_drift import log_loss
from ciclo_monitor.handlers import Monitor, Watched
from ciclo_monitor.metrics import MonitorMetrics
from ciclo_runtime.clock import ManualClock
from ciclo_runtime.metrics import ServiceMetrics


class Silence:
    """A journal that nobody reads."""

    async def state(self, statement):
        pass

    async def tell(self, model, findings):
        pass


@pytest.fixture
def metrics():
    return MonitorMetrics()


@pytest.fixture
def monitor(metrics):
    journal, clock = Silence(), ManualClock()
    made = Monitor(None, None, journal, metrics=metrics, clock=clock, most_rows=1_000_000)
    made._watched["churn"] = Watched(w.monitor(), None, "sha256:loop")
    return made


async def played(monitor, days):
    for offset, day in enumerate(days):
        await monitor.take_answers("predictions", offset, "churn", w.answers(day))
        await monitor.take_labels("labels", offset, "churn", w.labels(day))
    await monitor.state_all()


async def test_the_loss_of_the_newest_closed_block_is_shown(monitor, metrics):
    days = w.world(12)
    await played(monitor, days)
    newest = monitor.watched("churn").last_closed_block
    day = days[newest - w.START]
    expected = log_loss(day["score"], day["label"]).mean()
    labels = {"model": "churn", "version": "1"}
    shown = metrics.registry.get_sample_value("ciclo_monitor_loss_nats", labels)
    assert shown == pytest.approx(expected)


async def test_every_metric_of_the_monitor_is_shown_for_a_model_that_is_watched(monitor, metrics):
    await played(monitor, w.world(12))
    every_service = {family.name for family in ServiceMetrics("monitor").registry.collect()}
    silent = {
        family.name
        for family in metrics.registry.collect()
        if family.name not in every_service
        and not any(sample.labels["model"] == "churn" for sample in family.samples)
    }
    # Labels that are refused are counted where they are read, see the test of bad records.
    assert silent == {"ciclo_monitor_rows_rejected"}
