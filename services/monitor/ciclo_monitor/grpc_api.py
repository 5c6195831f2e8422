"""MonitoringService: decode, call, encode."""

from typing import Any

from ciclo.monitoring.v1 import monitoring_service_pb2 as pb
from ciclo.monitoring.v1.monitoring_service_pb2_grpc import MonitoringServiceServicer
from ciclo_monitor import wire
from ciclo_monitor.domain.drift import DriftTest, Moved
from ciclo_monitor.domain.model import ModelMonitor
from ciclo_monitor.domain.performance import PerformanceTest
from ciclo_monitor.handlers import Monitor


class MonitoringApi(MonitoringServiceServicer):
    """Answers `ciclo.monitoring.v1.MonitoringService`."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    async def GetModelHealth(
        self, request: pb.GetModelHealthRequest, context: Any
    ) -> pb.GetModelHealthResponse:
        """Returns what is known of a model."""
        model = self._monitor.watched(request.model)
        since_us = wire.to_us(request.start_time) if request.HasField("start_time") else None
        judged = model.judged
        drift = model.drift
        return pb.GetModelHealthResponse(
            state=wire.to_state(self._monitor.statement(request.model)),
            performance=_performance(model, model.performance) if model.performance else None,
            drift=_drift(model, drift) if drift else None,
            streams=wire.to_changes(_standing(drift)) if drift else (),
            losses=_losses(model, since_us),
            judgement=wire.to_judged(request.model, judged) if judged else None,
            counts=_counts(model),
        )

    async def BacktestPerformance(
        self, request: pb.BacktestPerformanceRequest, context: Any
    ) -> pb.BacktestPerformanceResponse:
        """Returns what another policy would have done."""
        replayed = self._monitor.backtest(
            request.model,
            request.version,
            tolerance=request.tolerance,
            budget_blocks=request.budget_blocks,
        )
        calendar = self._monitor.watched(request.model).policy.calendar
        return pb.BacktestPerformanceResponse(
            blocks=[
                wire.to_backtest_block(found, calendar.start_us(found.block.block))
                for found in replayed
            ]
        )

    async def DismissEpisode(
        self, request: pb.DismissEpisodeRequest, context: Any
    ) -> pb.DismissEpisodeResponse:
        """Ends the open episode because a person says so."""
        statement = await self._monitor.dismiss(request.model, request.requested_by, request.reason)
        return pb.DismissEpisodeResponse(state=wire.to_state(statement))


def _performance(model: ModelMonitor, test: PerformanceTest) -> pb.Evidence:
    rise = test.rise
    return pb.Evidence(
        value=rise.evidence,
        threshold=rise.threshold,
        budget=model.policy.budget,
        budget_spent=rise.blocks / model.policy.budget_blocks,
        alarms=model.tally.performance_alarms,
        not_judging=model.not_judging,
    )


def _drift(model: ModelMonitor, test: DriftTest) -> pb.Evidence:
    now = test.now
    return pb.Evidence(
        value=now.evidence,
        threshold=now.threshold,
        budget=model.policy.budget,
        budget_spent=test.blocks / model.policy.budget_blocks,
        alarms=model.tally.drift_alarms,
        not_judging=model.not_judging or test.limitation,
    )


def _standing(test: DriftTest) -> Moved:
    return test.dated(test.now)


def _losses(model: ModelMonitor, since_us: int | None) -> list[pb.BlockLoss]:
    calendar, last = model.policy.calendar, model.last_closed_block
    found = model.losses.with_kept(model.rows.kept)
    return [
        wire.to_block_loss(loss, calendar.start_us(loss.block), is_closed=loss.block <= last)
        for loss in found
        if since_us is None or calendar.start_us(loss.block) >= since_us
    ]


def _counts(model: ModelMonitor) -> pb.Counts:
    counts = model.rows.counts
    return pb.Counts(
        predictions=counts.rows,
        labels_joined=counts.joined,
        labels_unmatched=counts.unmatched,
        labels_too_late=counts.too_late,
        never_labelled=model.rows.never_labelled(),
        rejected={
            "DROPPED": counts.dropped,
            "CORRECTED_LATE": counts.corrected_late,
            "AHEAD_OF_TIME": counts.ahead,
        },
    )
