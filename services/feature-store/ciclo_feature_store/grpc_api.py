"""The servicer of FeatureService: decode, call, encode."""

import asyncio
from typing import Any

from ciclo.features.v1 import feature_service_pb2 as rpc
from ciclo.features.v1.feature_service_pb2_grpc import FeatureServiceServicer
from ciclo_feature_store import wire
from ciclo_feature_store.handlers import Handlers


class FeatureServicer(FeatureServiceServicer):
    """Answers FeatureService. Errors are Ciclo's; the server gives them a status.

    Args:
        handlers: The use cases.
    """

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    async def GetOnlineFeatures(  # noqa: D102 -- the contract's name and words
        self, request: rpc.GetOnlineFeaturesRequest, context: Any
    ) -> rpc.GetOnlineFeaturesResponse:
        del context
        entities = wire.unpack_lists(request.entities)
        as_of_us = wire.optional_us(request, "as_of_time")
        answer = self._handlers.read_online(request.feature_service, entities, as_of_us)
        return wire.online_answer(answer.service, answer.values)

    async def GetWatermarks(  # noqa: D102
        self, request: rpc.GetWatermarksRequest, context: Any
    ) -> rpc.GetWatermarksResponse:
        del context
        return wire.watermarks_answer(self._handlers.watermarks(request.feature_service))

    async def ImportObservations(  # noqa: D102
        self, request: rpc.ImportObservationsRequest, context: Any
    ) -> rpc.ImportObservationsResponse:
        del context
        chunk = await asyncio.to_thread(wire.observations, request)
        rows = await self._handlers.import_observations(chunk)
        return rpc.ImportObservationsResponse(rows_stored=rows)

    async def CreateSnapshot(  # noqa: D102
        self, request: rpc.CreateSnapshotRequest, context: Any
    ) -> rpc.CreateSnapshotResponse:
        del context
        snapshot = await self._handlers.create_snapshot(
            request.model,
            wire.required_us(request, "as_of_time"),
            wire.optional_us(request, "start_time"),
            request.loop_digest,
        )
        return wire.snapshot_answer(snapshot)

    async def AuditSkew(  # noqa: D102
        self, request: rpc.AuditSkewRequest, context: Any
    ) -> rpc.AuditSkewResponse:
        del context
        start_us = wire.optional_us(request, "start_time")
        end_us = wire.optional_us(request, "end_time")
        return wire.audit_answer(await self._handlers.audit_skew(request.model, start_us, end_us))

    async def CheckLoop(  # noqa: D102
        self, request: rpc.CheckLoopRequest, context: Any
    ) -> rpc.CheckLoopResponse:
        del context
        applied = await self._handlers.check_loop(request.files)
        views = [view.name for view in applied.service.views]
        return rpc.CheckLoopResponse(loop_digest=applied.digest, views=views)

    async def GetHistoryStatus(  # noqa: D102
        self, request: rpc.GetHistoryStatusRequest, context: Any
    ) -> rpc.GetHistoryStatusResponse:
        del context
        return wire.status_answer(await self._handlers.history_status(request.model))
