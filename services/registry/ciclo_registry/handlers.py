"""What the registry does about events of the trainer, the monitor and the gateway.

The consumer calls a handler in the transaction that also notes the event as handled.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ciclo.cloudevents import Envelope
from ciclo_registry import wire
from ciclo_registry.acts import Act, Setup
from ciclo_registry.domain import decisions
from ciclo_registry.domain.policy import EndReason
from ciclo_registry.domain.versions import Status
from ciclo_runtime.handling import Route, Routes
from ciclo_runtime.transaction import Tx


class Handlers:
    """Use cases that events cause.

    Args:
        setup: What every act needs.
        on_candidate: Called after a commit that put a bundle into the queue.
    """

    def __init__(self, setup: Setup, *, on_candidate: Callable[[], None]) -> None:
        self._setup = setup
        self._on_candidate = on_candidate

    def on_training_completed(
        self, envelope: Envelope, message: wire.TrainingCompleted, tx: Tx
    ) -> None:
        """Queues the bundle: to examine it takes longer than a transaction may."""
        act = self._noted(envelope, message, tx)
        candidate = replace(wire.candidate(message), cycle_id=envelope.correlation_id)
        act.model(candidate.model)
        act.books.add_candidate(envelope, candidate)
        tx.after_commit(self._on_candidate)

    def on_training_failed(self, envelope: Envelope, message: wire.TrainingFailed, tx: Tx) -> None:
        """Counts a failed cycle."""
        act = self._noted(envelope, message, tx)
        model = act.model(message.model)
        act.settle(model, decisions.fail_cycle(model, f"training, {message.reason}"))

    def on_rollout_judged(self, envelope: Envelope, message: wire.RolloutJudged, tx: Tx) -> None:
        """Moves the rollout on or takes it back, if it is the one that was judged."""
        act = self._noted(envelope, message, tx)
        model = act.model(envelope.subject)
        outcome = decisions.judge(model, act.policy(model), wire.judgement(message), now=act.now)
        if outcome.rollout is None:
            tx.after_commit(act.metrics.judgements_ignored.labels(model.name).inc)
        act.settle(model, outcome)

    def on_version_quarantined(
        self, envelope: Envelope, message: wire.VersionQuarantined, tx: Tx
    ) -> None:
        """Takes the rollout of a version back that will not be loaded again."""
        act = self._noted(envelope, message, tx)
        model, number = act.model(envelope.subject), message.version.version
        if model.rollout and model.rollout.challenger.number == number:
            why = f"{message.placement}, {message.reason}: {message.detail}"
            act.settle(model, decisions.take_back(model, EndReason.LOAD_FAILED, why))
        elif model.champion is None or model.champion.number != number:
            act.books.set_status(model.name, number, Status.QUARANTINED)
        # A champion that cannot be loaded anew still serves where it is loaded: a person decides.

    def on_lease_expired(self, envelope: Envelope, message: wire.LeaseExpired, tx: Tx) -> None:
        """Takes the canary back, unless it was renewed since."""
        act = self._noted(envelope, message, tx)
        model = act.model(message.model)
        act.settle(model, decisions.expire_lease(model, message.rollout_id, now=act.now))

    def on_noted(self, envelope: Envelope, message: Any, tx: Tx) -> None:
        """Writes an event into the audit chain, no more."""
        self._noted(envelope, message, tx)

    def routes(self) -> Routes:
        """Returns what is consumed."""
        return {
            **{kind: Route(self.on_noted) for kind in wire.NOTED},
            wire.TrainingCompleted: Route(self.on_training_completed),
            wire.TrainingFailed: Route(self.on_training_failed),
            wire.RolloutJudged: Route(self.on_rollout_judged),
            wire.VersionQuarantined: Route(self.on_version_quarantined),
            wire.LeaseExpired: Route(self.on_lease_expired),
        }

    def _noted(self, envelope: Envelope, message: Any, tx: Tx) -> Act:
        act = Act(tx, self._setup)
        service = envelope.source.rpartition("/")[2]
        action = message.DESCRIPTOR.name
        act.note(envelope.subject, action, service, wire.detail(message), envelope.id)
        return act
