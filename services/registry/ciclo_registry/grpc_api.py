"""The registry's gRPC side: decode, call, encode."""

import math

from ciclo.registry.v1 import registry_service_pb2 as pb
from ciclo.registry.v1.registry_service_pb2_grpc import RegistryServiceServicer
from ciclo_registry import wire
from ciclo_registry.commands import Commands
from ciclo_registry.domain.audit import AuditEntry
from ciclo_registry.domain.model import Model
from ciclo_registry.domain.rollout import Rollout
from ciclo_registry.domain.versions import Version
from ciclo_runtime.clock import Clock


class RegistryApi(RegistryServiceServicer):
    """See protos/ciclo/registry/v1. Errors are Ciclo's; the server puts them on the wire.

    Args:
        commands: What is asked for.
        clock: Dates the states that are told.
    """

    def __init__(self, commands: Commands, clock: Clock) -> None:
        self._commands = commands
        self._clock = clock

    async def ApplyLoop(
        self, request: pb.ApplyLoopRequest, context: object
    ) -> pb.ApplyLoopResponse:
        """Puts a definition into force."""
        applied = await self._commands.apply_loop(request.files, by=request.requested_by)
        return pb.ApplyLoopResponse(
            model=applied.model, changed=applied.has_changed, loop_digest=applied.loop_digest
        )

    async def GetModel(self, request: pb.GetModelRequest, context: object) -> pb.GetModelResponse:
        """Tells a model's state."""
        model = await self._commands.model(request.model)
        return pb.GetModelResponse(state=wire.state(model, self._clock.now()))

    async def ListModels(
        self, request: pb.ListModelsRequest, context: object
    ) -> pb.ListModelsResponse:
        """Tells of all models."""
        now = self._clock.now()
        models = await self._commands.models()
        return pb.ListModelsResponse(states=[wire.state(model, now) for model in models])

    async def ListVersions(
        self, request: pb.ListVersionsRequest, context: object
    ) -> pb.ListVersionsResponse:
        """Tells of a model's versions."""
        model, versions = await self._commands.versions(request.model)
        return pb.ListVersionsResponse(versions=[_version(one, model) for one in versions])

    async def RegisterVersion(
        self, request: pb.RegisterVersionRequest, context: object
    ) -> pb.RegisterVersionResponse:
        """Makes a version of a bundle."""
        version = await self._commands.register_version(
            request.model, request.bundle_digest, by=request.requested_by
        )
        model = await self._commands.model(request.model)
        return pb.RegisterVersionResponse(version=_version(version, model))

    async def StartRollout(
        self, request: pb.StartRolloutRequest, context: object
    ) -> pb.StartRolloutResponse:
        """Starts a version's rollout."""
        rollout_id = await self._commands.start_rollout(
            request.model,
            request.version,
            by=request.requested_by,
            override_reason=request.override_reason,
        )
        return pb.StartRolloutResponse(rollout_id=rollout_id)

    async def ForceRollout(
        self, request: pb.ForceRolloutRequest, context: object
    ) -> pb.ForceRolloutResponse:
        """Moves a rollout without the evidence."""
        model = await self._commands.force_rollout(
            request.model, request.version, by=request.requested_by, reason=request.reason
        )
        return pb.ForceRolloutResponse(state=wire.state(model, self._clock.now()))

    async def RollBack(self, request: pb.RollBackRequest, context: object) -> pb.RollBackResponse:
        """Takes back."""
        model = await self._commands.roll_back(
            request.model, by=request.requested_by, reason=request.reason
        )
        return pb.RollBackResponse(state=wire.state(model, self._clock.now()))

    async def PauseLoop(
        self, request: pb.PauseLoopRequest, context: object
    ) -> pb.PauseLoopResponse:
        """Stops a loop from acting by itself."""
        model = await self._commands.pause_loop(
            request.model, by=request.requested_by, reason=request.reason
        )
        return pb.PauseLoopResponse(state=wire.state(model, self._clock.now()))

    async def ResumeLoop(
        self, request: pb.ResumeLoopRequest, context: object
    ) -> pb.ResumeLoopResponse:
        """Lets it act again."""
        model = await self._commands.resume_loop(
            request.model, by=request.requested_by, reason=request.reason
        )
        return pb.ResumeLoopResponse(state=wire.state(model, self._clock.now()))

    async def ListRollouts(
        self, request: pb.ListRolloutsRequest, context: object
    ) -> pb.ListRolloutsResponse:
        """Tells of a model's rollouts."""
        rollouts = await self._commands.rollouts(request.model)
        return pb.ListRolloutsResponse(rollouts=[_rollout(one) for one in rollouts])

    async def ListAudit(
        self, request: pb.ListAuditRequest, context: object
    ) -> pb.ListAuditResponse:
        """Tells the audit chain."""
        entries, intact = await self._commands.audit(request.model)
        return pb.ListAuditResponse(entries=[_entry(one) for one in entries], intact=intact)


def _version(version: Version, model: Model) -> pb.ModelVersion:
    challenger = model.rollout.challenger if model.rollout else None
    names = {"champion": model.champion, "challenger": challenger, "previous": model.previous}
    # While it bakes, the challenger is the champion: one version may carry two aliases.
    aliases = [alias for alias, ref in names.items() if ref == version.ref]
    evidence = version.evidence
    known = {**evidence.metrics, **{f"champion:{k}": v for k, v in evidence.champion.items()}}
    return pb.ModelVersion(
        version=wire.ref(version.ref),
        run_id=version.run_id,
        cycle_id=version.cycle_id,
        dataset_digest=version.dataset_digest,
        newest_event_time=wire.timestamp(version.newest_event_time),
        aliases=aliases,
        status=version.status.value,
        gates=wire.gates(version.gates),
        metrics={name: found.value for name, found in known.items() if found.value is not None},
        create_time=wire.timestamp(version.create_time),
    )


def _rollout(rollout: Rollout) -> pb.RolloutRecord:
    judged = rollout.judgement
    record = pb.RolloutRecord(
        rollout=wire.rollout(rollout),
        champion=wire.ref(rollout.champion),
        end_reason=rollout.end.reason.value if rollout.end else "",
    )
    if judged:
        record.verdict = judged.verdict.value.lower()
        record.mean_gain = judged.mean_gain
        record.limited_gain = judged.limited_gain
        record.gain_low = -math.inf if judged.gain_low is None else judged.gain_low
        record.gain_high = math.inf if judged.gain_high is None else judged.gain_high
        record.blocks = judged.blocks
        record.rows = judged.rows
    return record


def _entry(entry: AuditEntry) -> pb.AuditEntry:
    return pb.AuditEntry(
        sequence=entry.sequence,
        create_time=wire.timestamp(entry.create_time),
        model=entry.model,
        action=entry.action,
        actor=entry.actor,
        reason=entry.reason,
        event_id=entry.event_id,
        hash=entry.hash,
    )
