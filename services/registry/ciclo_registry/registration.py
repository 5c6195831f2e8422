"""Makes versions of the bundles that trainings brought: examine, then one transaction."""

from enum import StrEnum, unique

import structlog

from ciclo.cloudevents import Envelope
from ciclo.errors import Reject
from ciclo_registry.acts import Act, Setup
from ciclo_registry.domain import decisions
from ciclo_registry.domain.decisions import CICLO
from ciclo_registry.domain.versions import Candidate, Examined
from ciclo_registry.ports import Examiner
from ciclo_runtime.crash import crash_point
from ciclo_runtime.database import Database
from ciclo_runtime.transaction import Tx

_log = structlog.get_logger(__name__)


@unique
class RegistryCrash(StrEnum):
    """Moments at which tests kill the registry."""

    EXAMINED = "registry.examined"
    REGISTERED = "registry.registered"


class Registration:
    """Works through the queue of bundles; a reconciler runs `step`.

    Args:
        database: Holds the queue and the books.
        examiner: Looks into the blob store.
        setup: What every act needs.
    """

    def __init__(self, database: Database, examiner: Examiner, setup: Setup) -> None:
        self._database = database
        self._examiner = examiner
        self._setup = setup

    async def step(self) -> None:
        """Registers or refuses every bundle in the queue, oldest first.

        Raises:
            Retry: The blob store or the database does not answer; the queue stays.
        """
        waiting = await self._database.read(lambda c: self._setup.open_books(c).candidates())
        for cause, candidate in waiting:
            try:
                examined = await self._examine(candidate)
            except Reject as error:
                await self._refuse(cause, candidate, error)
            else:
                await self._register(cause, candidate, examined)

    async def _examine(self, candidate: Candidate) -> Examined:
        examined = await self._examiner.examine(candidate.bundle_digest)
        require_model(examined, candidate.model)
        return examined

    async def _register(self, cause: Envelope, candidate: Candidate, examined: Examined) -> None:
        crash_point(RegistryCrash.EXAMINED)

        def work(tx: Tx) -> None:
            act = Act(tx, self._setup)
            if act.books.remove_candidate(cause):
                act.register(candidate, examined)
                act.take_up(candidate)

        await self._database.transaction(work, cause=cause)
        crash_point(RegistryCrash.REGISTERED)

    async def _refuse(self, cause: Envelope, candidate: Candidate, error: Reject) -> None:
        _log.error(
            "bundle_refused",
            model=candidate.model,
            digest=candidate.bundle_digest,
            error=str(error),
        )

        def work(tx: Tx) -> None:
            act = Act(tx, self._setup)
            if not act.books.remove_candidate(cause):
                return
            act.note(candidate.model, "BundleRefused", CICLO, str(error), cause.id)
            model = act.model(candidate.model)
            act.settle(model, decisions.fail_cycle(model, f"bundle refused, {error.reason}"))
            act.take_up(candidate)
            tx.after_commit(act.metrics.bundles_refused.labels(model.name).inc)

        await self._database.transaction(work, cause=cause)


def require_model(examined: Examined, model: str) -> None:
    """Raises Reject unless a bundle was made for a model."""
    if examined.model != model:
        raise Reject(
            f"the bundle is one of {examined.model!r}, not of {model!r}",
            reason="WRONG_MODEL",
            field="bundle_digest",
        )
