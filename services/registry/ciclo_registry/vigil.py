"""Watches over rollouts between judgements: renews leases, notices that nothing moves on."""

from collections.abc import Callable, Mapping
from datetime import datetime

from ciclo_registry.acts import Act, Setup
from ciclo_registry.domain import decisions
from ciclo_registry.domain.model import Heartbeat
from ciclo_runtime.database import Database
from ciclo_runtime.transaction import Tx

INTERVALS_A_LEASE = 12
"""How often rollouts are looked after within one lease."""


class Vigil:
    """Compares every rollout with what the monitor last said; a reconciler runs `step`.

    Args:
        database: Holds the books.
        heartbeats: What the monitor last said, by model.
        setup: What every act needs.
        since: Wall time from which on progress would have been noticed: this process's start.
    """

    def __init__(
        self,
        database: Database,
        heartbeats: Callable[[], Mapping[str, Heartbeat]],
        setup: Setup,
        *,
        since: datetime,
    ) -> None:
        self._database = database
        self._heartbeats = heartbeats
        self._setup = setup
        self._since = since

    async def step(self) -> None:
        """Looks after every model once. Nothing is written where nothing changed.

        Raises:
            Retry: The database does not answer.
        """
        heard = dict(self._heartbeats())
        await self._database.transaction(lambda tx: self._look_after(tx, heard))

    def _look_after(self, tx: Tx, heard: Mapping[str, Heartbeat]) -> None:
        act = Act(tx, self._setup)
        for model in act.books.models():
            beat = heard.get(model.name)
            outcome = decisions.observe(
                model,
                act.policy(model) if model.rollout else None,
                watermark=beat.watermark if beat else None,
                heartbeat=beat.create_time if beat else None,
                watching_since=self._since,
                now=act.now,
            )
            if outcome.model != model:
                act.settle(model, outcome)
