"""What people ask of the registry. Each command names who asks; both that and why are audited."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ciclo.errors import Conflict, NotFound, Reject
from ciclo.loop import LOOP_FILE, InvalidLoop, Loop, parse_loop
from ciclo_registry.acts import Act, Setup, no_model
from ciclo_registry.domain import audit, decisions
from ciclo_registry.domain.audit import AuditEntry
from ciclo_registry.domain.model import Model
from ciclo_registry.domain.policy import EndReason
from ciclo_registry.domain.rollout import Rollout
from ciclo_registry.domain.versions import Candidate, Status, Version
from ciclo_registry.ports import Books, Examiner
from ciclo_registry.registration import require_model
from ciclo_runtime.database import Database
from ciclo_runtime.transaction import Tx

MAX_FILE_BYTES = 1_000_000
"""Greatest file of a loop's folder: code and settings, no data."""

FEATURES_FILE = "features.py"
"""Holds a loop's feature definitions."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a definition.

    Attributes:
        model: The model that it declares.
        loop_digest: Its address in the blob store.
        has_changed: False: it was in force already.
    """

    model: str
    loop_digest: str
    has_changed: bool


class Commands:
    """Use cases that people cause, and what they may ask.

    Args:
        database: Holds the books.
        examiner: Looks into the blob store.
        setup: What every act needs.
    """

    def __init__(self, database: Database, examiner: Examiner, setup: Setup) -> None:
        self._database = database
        self._examiner = examiner
        self._setup = setup

    async def apply_loop(self, files: Mapping[str, bytes], *, by: str) -> Applied:
        """Stores a definition and puts it into force.

        Args:
            files: By their path in the loop's folder.
            by: Who applies it.
        """
        _require("requested_by", by)
        text, loop = _checked(files)
        digest = await self._examiner.store_loop(files)

        def apply(act: Act) -> Applied:
            before = act.books.model(loop.model)
            outcome = decisions.apply_loop(before, loop.model, digest, by=by)
            act.books.save_loop(digest, text)
            act.settle(before, outcome)
            return Applied(loop.model, digest, has_changed=bool(outcome.facts))

        return await self._act(apply, by=by)

    async def register_version(self, model: str, bundle_digest: str, *, by: str) -> Version:
        """Makes a version of a bundle, as the end of a run does."""
        _require("requested_by", by)
        await self._look(lambda books: _model(books, model))
        examined = await self._examiner.examine(bundle_digest)
        require_model(examined, model)
        candidate = Candidate(model, bundle_digest)
        return await self._act(lambda act: act.register(candidate, examined), by=by)

    async def start_rollout(self, model: str, number: int, *, by: str, override_reason: str) -> str:
        """Starts the rollout of a version, and returns its id; empty where it serves at once."""
        _require("requested_by", by)

        def start(act: Act) -> str:
            before, version = act.model(model), _startable(act, model, number)
            is_fit = version.has_passed_gates and version.status is not Status.ROLLED_BACK
            if not is_fit and not override_reason:
                raise Conflict(
                    f"version {number} of {model} is {version.status}; read its gates, and give "
                    "an override_reason to roll it out all the same",
                    reason="GATES_REFUSED",
                )
            after = act.start(before, version)
            return after.rollout.rollout_id if after.rollout else ""

        return await self._act(start, by=by, reason=override_reason)

    async def force_rollout(self, model: str, number: int, *, by: str, reason: str) -> Model:
        """Moves a rollout past its present stage, or starts one past its shadow."""
        _require("requested_by", by)
        _require("reason", reason)

        def force(act: Act) -> Model:
            before = act.model(model)
            if before.rollout is None:
                if number == 0:
                    raise Conflict(
                        f"{model} has no rollout to force; name a version", reason="NO_ROLLOUT"
                    )
                # What came before is known, and was set aside: the canary is judged by itself.
                since = before.watermark
                before = act.start(before, _startable(act, model, number), since=since)
            elif number not in (0, before.rollout.challenger.number):
                raise _is_under_way(before.rollout)
            if before.rollout is None:
                return before  # nothing served: the version does now, past every stage
            outcome = decisions.force(before, act.policy(before), by=by, reason=reason, now=act.now)
            return act.settle(before, outcome)

        return await self._act(force, by=by, reason=reason)

    async def roll_back(self, model: str, *, by: str, reason: str) -> Model:
        """Takes the rollout back, or returns to the previous champion."""
        _require("requested_by", by)
        _require("reason", reason)

        def take_back(act: Act) -> Model:
            before = act.model(model)
            if before.rollout is None and before.previous is None:
                raise Conflict(
                    f"{model} has no rollout under way and no previous champion to return to",
                    reason="NOTHING_TO_RETURN_TO",
                )
            return act.settle(before, decisions.take_back(before, EndReason.MANUAL, reason, by=by))

        return await self._act(take_back, by=by, reason=reason)

    async def pause_loop(self, model: str, *, by: str, reason: str) -> Model:
        """Stops a loop from acting by itself."""
        _require("requested_by", by)
        _require("reason", reason)

        def pause(act: Act) -> Model:
            before = act.model(model)
            return act.settle(before, decisions.pause(before, reason, by=by))

        return await self._act(pause, by=by, reason=reason)

    async def resume_loop(self, model: str, *, by: str, reason: str) -> Model:
        """Lets a loop act by itself again; a version that waits for that is offered."""
        _require("requested_by", by)
        _require("reason", reason)

        def resume(act: Act) -> Model:
            before = act.model(model)
            return act.offer(act.settle(before, decisions.resume(before, reason, by=by)))

        return await self._act(resume, by=by, reason=reason)

    async def model(self, name: str) -> Model:
        """Returns a model."""
        return await self._look(lambda books: _model(books, name))

    async def models(self) -> Sequence[Model]:
        """Returns all models by name."""
        return await self._look(lambda books: books.models())

    async def versions(self, model: str) -> tuple[Model, Sequence[Version]]:
        """Returns a model with its versions, newest first."""
        return await self._look(lambda books: (_model(books, model), books.versions(model)))

    async def rollouts(self, model: str) -> Sequence[Rollout]:
        """Returns a model's rollouts, newest first."""

        def look(books: Books) -> Sequence[Rollout]:
            return books.rollouts(_model(books, model).name)

        return await self._look(look)

    async def audit(self, model: str) -> tuple[Sequence[AuditEntry], bool]:
        """Returns the audit chain, of one model or (empty) of all, and whether it is intact."""
        entries, head = await self._look(lambda books: books.audit())
        mine = [entry for entry in entries if model in ("", entry.model)]
        return mine, audit.is_intact(entries, head)

    async def _act(self, work: Callable[[Act], T], *, by: str, reason: str = "") -> T:
        def transaction(tx: Tx) -> T:
            return work(Act(tx, self._setup, actor=by, reason=reason))

        return await self._database.transaction(transaction)

    async def _look(self, work: Callable[[Books], T]) -> T:
        return await self._database.read(lambda c: work(self._setup.open_books(c)))


def _checked(files: Mapping[str, bytes]) -> tuple[str, Loop]:
    for name, content in files.items():
        if len(content) > MAX_FILE_BYTES:
            raise Reject(
                f"{name} has {len(content)} bytes, at most {MAX_FILE_BYTES} are taken", field=name
            )
    try:
        text = files.get(LOOP_FILE, b"").decode()
    except UnicodeDecodeError as error:
        raise InvalidLoop(f"{LOOP_FILE} is not UTF-8: {error}", field=LOOP_FILE) from error
    loop = parse_loop(text)
    for name in (loop.recipe.partition(":")[0], FEATURES_FILE):
        if name not in files:
            raise InvalidLoop(f"the loop's folder has no {name}", field=name)
    return text, loop


def _startable(act: Act, name: str, number: int) -> Version:
    """Returns a version that a person may start, or says why not."""
    model, version = act.model(name), act.books.version(name, number)
    if version is None:
        raise NotFound(f"{name} has no version {number}", field="version")
    if model.rollout:
        raise _is_under_way(model.rollout)
    if model.champion and model.champion.number == number:
        raise Conflict(f"version {number} of {name} serves already", reason="IS_CHAMPION")
    if version.status is Status.QUARANTINED:
        raise Conflict(
            f"version {number} of {name} is quarantined: the gateway does not load it again",
            reason="QUARANTINED",
        )
    if model.champion and model.champion.signature_digest != version.ref.signature_digest:
        raise Conflict(
            f"version {number} of {name} has another signature than the champion: its answers "
            "cannot be compared; serve it as a model of another name",
            reason="SIGNATURE_DIFFERS",
        )
    return version


def _is_under_way(rollout: Rollout) -> Conflict:
    return Conflict(
        f"version {rollout.challenger.number} of {rollout.challenger.model} is being rolled out "
        f"({rollout.stage}); wait for its end, or roll it back",
        reason="ROLLOUT_IN_PROGRESS",
        metadata={"rollout_id": rollout.rollout_id},
    )


def _model(books: Books, name: str) -> Model:
    found = books.model(name)
    if found is None:
        raise no_model(name)
    return found


def _require(field: str, value: str) -> None:
    if not value.strip():
        raise Reject(f"{field} is empty: the audit chain names who acts and why", field=field)
