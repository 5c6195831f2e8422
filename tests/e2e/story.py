"""The story of the loop that `ciclo init` writes, played once for all tests of this folder."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ciclo.events.v1.rollout_judged_pb2 import STAGE_COMPLETED
from ciclo.history import RecordedEvent
from ciclo.registry.v1 import registry_service_pb2 as registry
from ciclo.registry.v1.registry_service_pb2_grpc import RegistryServiceStub

MODEL = "churn"
LEAST_DAYS, MORE_DAYS, MOST_DAYS = 45, 5, 70
"""On a busy machine training takes more event days: it is played on until the rollout is over."""

START = datetime(2024, 1, 1, tzinfo=UTC)
CHANGE = START + timedelta(days=20)


@dataclass(frozen=True)
class Told:
    """What a player said, and what was recorded."""

    player: str
    days: int
    events: list[RecordedEvent]

    def named(self, name: str) -> list[RecordedEvent]:
        return [event for event in self.events if event.name == name]

    @property
    def cycle(self) -> list[RecordedEvent]:
        """The events of the cycle that degraded performance opened."""
        opened = self.named("PerformanceDegraded")[0].envelope.correlation_id
        return [event for event in self.events if event.envelope.correlation_id == opened]


def is_under_way(stub: RegistryServiceStub) -> bool:
    """Says whether the rollout of version 2 has not completed yet."""
    rollouts = stub.ListRollouts(registry.ListRolloutsRequest(model=MODEL)).rollouts
    return [r.rollout.stage for r in rollouts] != [STAGE_COMPLETED]
