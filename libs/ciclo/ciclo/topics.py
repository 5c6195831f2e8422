"""The one table of events: which type travels on which topic, how long it is kept, who owns it."""

import importlib
import re
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

from google.protobuf.message import Message

PACKAGE = "ciclo.events.v1"
"""Protobuf package of every event."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A stream of one domain, or the present state of one.

    Args:
        domain: What it is about; part of its name.
        owner: The service that publishes it, or `sources` for programs outside.
        retention: How long records are kept; None: for ever, because `ciclo why` reads them.
        compacted: True if only the newest record of a key is kept.
    """

    domain: str
    owner: str
    retention: timedelta | None = None
    compacted: bool = False

    def name(self, env: str) -> str:
        """Returns the topic's name in an environment, such as `local.ciclo.labels.v1`."""
        return f"{env}.ciclo.{self.domain}.v1"


_BULK = timedelta(days=7)

FEATURES = Topic("features", "sources", _BULK)
PREDICTIONS = Topic("predictions", "gateway", _BULK)
LABELS = Topic("labels", "gateway", _BULK)
MONITORING = Topic("monitoring", "monitor")
MONITORING_STATE = Topic("monitoring.state", "monitor", compacted=True)
TRAINING = Topic("training", "trainer")
REGISTRY = Topic("registry", "registry")
REGISTRY_STATE = Topic("registry.state", "registry", compacted=True)
DEPLOYMENT = Topic("deployment", "gateway")
DEAD_LETTERS = Topic("dead-letters", "every service")

TOPICS = (
    FEATURES,
    PREDICTIONS,
    LABELS,
    MONITORING,
    MONITORING_STATE,
    TRAINING,
    REGISTRY,
    REGISTRY_STATE,
    DEPLOYMENT,
    DEAD_LETTERS,
)
"""Every topic; each is created with one partition when a service starts."""

CONTROL_TOPICS = (MONITORING, TRAINING, REGISTRY, DEPLOYMENT)
"""What `ciclo why` walks: few records, kept for ever."""

EVENTS = MappingProxyType(
    {
        "FeatureRowsObserved": FEATURES,
        "PredictionsServed": PREDICTIONS,
        "PredictionsLost": PREDICTIONS,
        "LabelsReported": LABELS,
        "DriftDetected": MONITORING,
        "PerformanceDegraded": MONITORING,
        "EpisodeClosed": MONITORING,
        "RolloutJudged": MONITORING,
        "MonitoringState": MONITORING_STATE,
        "TrainingStarted": TRAINING,
        "TrainingSkipped": TRAINING,
        "TrainingCompleted": TRAINING,
        "TrainingFailed": TRAINING,
        "LoopApplied": REGISTRY,
        "VersionRegistered": REGISTRY,
        "GatesEvaluated": REGISTRY,
        "RolloutStarted": REGISTRY,
        "RolloutAdvanced": REGISTRY,
        "ModelPromoted": REGISTRY,
        "RolloutCompleted": REGISTRY,
        "RolloutRolledBack": REGISTRY,
        "LoopPaused": REGISTRY,
        "LoopResumed": REGISTRY,
        "RegistryState": REGISTRY_STATE,
        "VersionLoaded": DEPLOYMENT,
        "VersionQuarantined": DEPLOYMENT,
        "RoutesApplied": DEPLOYMENT,
        "RoutesRefused": DEPLOYMENT,
        "LeaseExpired": DEPLOYMENT,
    }
)
"""Topic of each event by its short name. Key: the subject, which is a model's or a view's name."""


def topic_of(message: Message) -> Topic:
    """Returns the topic that an event travels on.

    Raises:
        KeyError: The message is not an event.
    """
    return EVENTS[message.DESCRIPTOR.name]


def event_class(full_name: str) -> type[Message]:
    """Returns the generated class of an event type such as `ciclo.events.v1.DriftDetected`.

    Raises:
        LookupError: No such event.
    """
    package, _, name = full_name.rpartition(".")
    if package != PACKAGE or name not in EVENTS:
        raise LookupError(full_name)
    module = importlib.import_module(
        f"{PACKAGE}.{re.sub(r'(?<!^)(?=[A-Z])', '_', name).lower()}_pb2"
    )
    found: type[Message] = getattr(module, name)
    return found
