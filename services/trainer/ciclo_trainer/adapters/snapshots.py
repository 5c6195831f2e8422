"""Datasets from the feature store."""

from datetime import datetime, timedelta

from ciclo.errors import Conflict, Retry
from ciclo.features.v1.feature_service_pb2_grpc import FeatureServiceStub
from ciclo_runtime.grpc_client import connect
from ciclo_runtime.grpc_errors import CalleeFaulty
from ciclo_trainer import wire
from ciclo_trainer.domain.runs import Snapshot
from ciclo_trainer.ports import Faulty

BEHIND = "DATA_BEHIND_CUT"
"""Why the feature store refuses what it will do later: features lag behind the event time."""


class FeatureStore:
    """A part: the connection to the feature store. Satisfies `ports.Snapshots`.

    Args:
        address: `host:port`.
        timeout: Of one cut.
    """

    def __init__(self, address: str, timeout: timedelta) -> None:
        self._address = address
        self._timeout = timeout

    async def start(self) -> None:
        """Makes the channel; it connects with the first call."""
        self._channel = connect(
            self._address, deadline=self._timeout, idempotent=["ciclo.features.v1.FeatureService"]
        )

    async def stop(self) -> None:
        """Closes the channel."""
        await self._channel.close()

    async def cut(self, model: str, as_of: datetime, loop_digest: str) -> Snapshot:
        """Cuts a dataset as of an event time. See `ports.Snapshots`."""
        stub = FeatureServiceStub(self._channel)
        request = wire.snapshot_request(model, as_of, loop_digest)
        try:
            return wire.to_snapshot(await stub.CreateSnapshot(request))
        except CalleeFaulty as error:
            raise Faulty(f"the feature store: {error.message}", reason=error.reason) from error
        except Conflict as error:
            if error.reason != BEHIND:
                raise
            raise Retry(error.message, reason=BEHIND, metadata=error.metadata) from error
