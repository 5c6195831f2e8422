"""An act: one transaction that reads a model, takes a decision and writes all of its consequences.

Event handlers, people's commands and the two reconcilers all act through this module.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ciclo.errors import NotFound
from ciclo_registry import wire
from ciclo_registry.domain import decisions, facts
from ciclo_registry.domain.audit import AuditEntry
from ciclo_registry.domain.decisions import CICLO, Outcome
from ciclo_registry.domain.facts import Fact, GatesEvaluated, RolloutStarted, VersionRegistered
from ciclo_registry.domain.gates import Exhibit, evaluate
from ciclo_registry.domain.model import Model, is_said_alike
from ciclo_registry.domain.policy import RolloutPolicy, policy_of
from ciclo_registry.domain.versions import Candidate, Examined, Version, VersionRef
from ciclo_registry.metrics import RegistryMetrics
from ciclo_registry.ports import OpenBooks
from ciclo_runtime.transaction import Tx


@dataclass(frozen=True, slots=True)
class Setup:
    """What every act needs, the same for all.

    Attributes:
        open_books: Opens the books of a transaction.
        metrics: Told after the commit.
        new_id: Makes ids of rollouts and cycles.
        stall: Wall time without progress after which a rollout is taken back.
        lease: Wall time for which a canary holds unless it is renewed.
    """

    open_books: OpenBooks
    metrics: RegistryMetrics
    new_id: Callable[[], str]
    stall: timedelta
    lease: timedelta


class Act:
    """One transaction of the registry's.

    Args:
        tx: Lives as long as this.
        setup: What every act needs.
        actor: Who acts, for the audit chain.
        reason: Why, for the audit chain; empty: each fact tells.
    """

    def __init__(self, tx: Tx, setup: Setup, *, actor: str = CICLO, reason: str = "") -> None:
        self.now = tx.now
        self.books = setup.open_books(tx.connection)
        self.metrics = setup.metrics
        self.new_id = setup.new_id
        self._tx = tx
        self._setup = setup
        self._actor = actor
        self._reason = reason
        self._last_id = tx.cause.id if tx.cause else ""

    def model(self, name: str) -> Model:
        """Returns a model.

        Raises:
            NotFound: No loop declares it.
        """
        found = self.books.model(name)
        if found is None:
            raise no_model(name)
        return found

    def policy(self, model: Model) -> RolloutPolicy:
        """Returns the policy of the rollout under way, or of the next."""
        digest = model.rollout.loop_digest if model.rollout else model.loop_digest
        return policy_of(self.books.loop(digest), stall=self._setup.stall, lease=self._setup.lease)

    def note(self, model: str, action: str, actor: str, reason: str, event_id: str = "") -> None:
        """Adds to the audit chain."""
        self.books.append_audit(AuditEntry(0, self.now, model, action, actor, reason, event_id))

    def settle(
        self, before: Model | None, outcome: Outcome, *, cycle_id: str | None = None
    ) -> Model:
        """Writes a decision: rows, facts, audit, and the state if others must act on it.

        If it ended a rollout, a version that waited for that end is offered.

        Args:
            before: The model before the decision; None: it is new.
            outcome: What the decision came to.
            cycle_id: The cycle that it belongs to; None: the rollout's, or the cause's.

        Returns:
            The model as written.
        """
        model, rollout = outcome.model, outcome.rollout
        if cycle_id is None and rollout:
            cycle_id = rollout.cycle_id
        if rollout:
            self.books.save_rollout(rollout)
        for fact in outcome.facts:
            self._publish(model.name, fact, cycle_id)
        is_news = not is_said_alike(before, model)
        if is_news:
            model = replace(model, generation=model.generation + 1)
        if model != before:
            self.books.save_model(model)
        if is_news:
            state = wire.state(model, self.now)
            state.cause_event_id = self._last_id
            state.cycle_id = cycle_id or (self._tx.cause.correlation_id if self._tx.cause else "")
            self._tx.emit(state, subject=model.name, correlation_id=state.cycle_id)
            self._tx.after_commit(lambda: self.metrics.show(model))
        if rollout and rollout.is_over:
            # Who ended this one, and why, says nothing about the next: that is Ciclo's own act.
            return Act(self._tx, self._setup).offer(model)
        return model

    def register(self, candidate: Candidate, examined: Examined) -> Version:
        """Makes a version of an examined bundle, judges it, and starts its rollout if it may.

        A bundle that is a version already stays what it is.
        """
        model = self.model(candidate.model)
        known = self.books.version_of(model.name, candidate.bundle_digest)
        if known:
            return known
        version = self._new_version(candidate, examined)
        self.books.save_version(version)
        first: Fact = VersionRegistered(version.ref, version.run_id, version.dataset_digest)
        judged = GatesEvaluated(
            version.ref, all(gate.passed for gate in version.gates), version.gates
        )
        outcome = Outcome(model, (first, judged))
        if not judged.passed:
            failed = decisions.fail_cycle(model, f"gates refused version {version.ref.number}")
            outcome = Outcome(failed.model, (*outcome.facts, *failed.facts))
        self.offer(self.settle(model, outcome, cycle_id=version.cycle_id))
        return self.books.version(model.name, version.ref.number) or version

    def take_up(self, candidate: Candidate) -> None:
        """Says that all that follows from a run's bundle was said; the last word of its act."""
        model = self.model(candidate.model)
        after = replace(model, last_run_id=candidate.run_id)
        self.settle(model, Outcome(after), cycle_id=candidate.cycle_id or None)

    def offer(self, model: Model) -> Model:
        """Starts the newest version that waits, if the loop may act by itself.

        A version waits that passed its gates, was never tried, and is newer than the champion.
        """
        loop = self.books.loop(model.loop_digest)
        if loop.mode != "act" or model.is_paused or model.rollout:
            return model
        serving = model.champion.number if model.champion else 0
        for version in self.books.versions(model.name):
            if version.may_start_by_itself and version.ref.number > serving:
                return self.start(model, version)
        return model

    def start(self, model: Model, version: Version, *, since: datetime | None = None) -> Model:
        """Starts a version's rollout, or promotes it where nothing serves.

        Args:
            model: Without a rollout.
            version: Not the champion.
            since: Event time from which on they are compared. None: since its data were cut.
        """
        rollout_id = self.new_id()
        outcome = decisions.start(model, version, rollout_id=rollout_id, now=self.now, since=since)
        return self.settle(model, outcome, cycle_id=version.cycle_id)

    def _new_version(self, candidate: Candidate, examined: Examined) -> Version:
        model = self.model(candidate.model)
        newest = next(iter(self.books.versions(model.name)), None)
        ref = VersionRef(
            model.name,
            newest.ref.number + 1 if newest else 1,
            candidate.bundle_digest,
            examined.signature_digest,
        )
        champion = self.books.version(model.name, model.champion.number) if model.champion else None
        return Version(
            ref=ref,
            run_id=candidate.run_id,
            cycle_id=candidate.cycle_id or self.new_id(),
            dataset_digest=examined.dataset_digest,
            as_of_time=candidate.as_of_time or examined.as_of_time,
            newest_event_time=examined.newest_event_time,
            create_time=self.now,
            evidence=examined.evidence,
            gates=evaluate(
                self.books.loop(model.loop_digest).gates,
                Exhibit(examined.evidence, ref.signature_digest),
                Exhibit(champion.evidence, champion.ref.signature_digest) if champion else None,
            ),
        )

    def _publish(self, model: str, fact: Fact, cycle_id: str | None) -> None:
        # The event that starts a rollout lends it its id: whoever knows one knows the other.
        event_id = self._tx.emit(
            wire.encode(fact),
            subject=model,
            correlation_id=cycle_id,
            event_id=fact.rollout_id if isinstance(fact, RolloutStarted) else None,
        )
        reason = facts.describe(fact)
        if self._reason and self._reason not in reason:
            reason = f"{reason}; {self._reason}"
        actor = facts.actor(fact) or self._actor
        self.note(model, type(fact).__name__, actor, reason, event_id)
        for number, status in facts.statuses(fact).items():
            self.books.set_status(model, number, status)
        self._last_id = event_id
        self._tx.after_commit(lambda: self.metrics.count(model, fact))


def no_model(name: str) -> NotFound:
    """Returns the error that says that no loop declares a model."""
    return NotFound(
        f"no model {name!r}; `ciclo apply` with a loop.yaml that declares it makes one",
        field="model",
        metadata={"model": name},
    )
