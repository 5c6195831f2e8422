"""Counts what Envoy could not write to the spool: answers that callers got and nobody captured."""

import structlog

from ciclo_gateway.domain.spool import UNKNOWN_MODEL
from ciclo_gateway.metrics import GatewayMetrics
from ciclo_gateway.ports.shipping import Loss, ShippingLedger, Spool

PLACE = "envoy:filesystem.write_failed"
"""Stands for the byte range: there is none."""

_log = structlog.get_logger(__name__)


class WriteFailures:
    """Its `step` is repeated by a `Reconciler`.

    Args:
        spool: Asks Envoy.
        ledger: Remembers what was counted, and publishes the loss.
        metrics: Counts.
    """

    def __init__(self, spool: Spool, ledger: ShippingLedger, metrics: GatewayMetrics) -> None:
        self._spool = spool
        self._ledger = ledger
        self._metrics = metrics

    async def step(self) -> None:
        """Publishes how many lines were lost since the last look. Raises `Retry`."""
        failures = await self._spool.write_failures()
        if failures is None:
            return
        lost = await self._ledger.count_write_failures(
            failures, lambda count: Loss(UNKNOWN_MODEL, "SPOOL_FULL", count, PLACE)
        )
        if lost:
            self._metrics.answers_lost.labels("SPOOL_FULL").inc(lost)
            _log.error("spool_write_failed", lost=lost)
