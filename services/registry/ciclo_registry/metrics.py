"""What the registry shows beside the numbers that all services have."""

from prometheus_client import Counter, Gauge

from ciclo_registry.domain.facts import (
    Fact,
    GatesEvaluated,
    ModelPromoted,
    RolloutCompleted,
    RolloutRolledBack,
    RolloutStarted,
    VersionRegistered,
)
from ciclo_registry.domain.model import Model
from ciclo_registry.domain.policy import Stage
from ciclo_runtime.metrics import ServiceMetrics


class RegistryMetrics:
    """Counts facts and shows the present state.

    Args:
        service: Holds the registry that they are shown by.
    """

    def __init__(self, service: ServiceMetrics) -> None:
        prefix, registry = service.prefix, service.registry

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"{prefix}_{name}_total", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"{prefix}_{name}", text, labels, registry=registry)

        self.versions = counter("versions_registered", "Bundles that became versions", "model")
        self.gates = counter(
            "gates_evaluated",
            "Gates by rule and verdict: passed, refused",
            "model",
            "rule",
            "verdict",
        )
        self.rollouts_started = counter("rollouts_started", "Rollouts that began", "model")
        self.rollouts_ended = counter(
            "rollouts_ended",
            "Rollouts that ended: COMPLETED, or why they were taken back",
            "model",
            "reason",
        )
        self.promotions = counter("promotions", "Versions that became champion", "model")
        self.judgements_ignored = counter(
            "judgements_ignored", "Judgements of another rollout or stage, or repeated", "model"
        )
        self.bundles_refused = counter(
            "bundles_refused", "Bundles that could not become versions", "model"
        )
        self.generation = gauge("state_generation", "Generation of the state published", "model")
        self.paused = gauge("loop_paused_ratio", "1 while the loop is paused, else 0", "model")
        self.champion = gauge("champion_version", "Number of the champion; 0: none", "model")
        self.weight = gauge("challenger_weight_ratio", "Challenger's share of requests", "model")
        self.exposed = gauge(
            "exposed_rows", "Rows that callers got from the challenger, as last judged", "model"
        )
        self.stage = gauge("rollout_stage", "1 for the present stage, else 0", "model", "stage")

    def count(self, model: str, fact: Fact) -> None:
        """Counts a fact; called after it is committed."""
        match fact:
            case VersionRegistered():
                self.versions.labels(model).inc()
            case GatesEvaluated(results=results):
                for gate in results:
                    verdict = "passed" if gate.passed else "refused"
                    self.gates.labels(model, gate.rule.split(" ")[0], verdict).inc()
            case RolloutStarted():
                self.rollouts_started.labels(model).inc()
            case RolloutCompleted():
                self.rollouts_ended.labels(model, Stage.COMPLETED.value).inc()
            case RolloutRolledBack(end=end):
                self.rollouts_ended.labels(model, end.reason.value).inc()
            case ModelPromoted():
                self.promotions.labels(model).inc()
            case _:
                pass

    def show(self, model: Model) -> None:
        """Shows a model's state; called after it is committed."""
        rollout = model.rollout
        self.generation.labels(model.name).set(model.generation)
        self.paused.labels(model.name).set(model.is_paused)
        self.champion.labels(model.name).set(model.champion.number if model.champion else 0)
        self.weight.labels(model.name).set(rollout.weight if rollout else 0)
        self.exposed.labels(model.name).set(rollout.exposed_rows if rollout else 0)
        for stage in (Stage.SHADOW, Stage.CANARY, Stage.BAKING):
            present = rollout is not None and rollout.stage is stage
            self.stage.labels(model.name, stage.value).set(present)
