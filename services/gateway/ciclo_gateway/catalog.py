"""What the gateway knows at this moment; the control plane writes it, everyone else reads it."""

from dataclasses import dataclass, field

from ciclo.errors import NotFound, Retry
from ciclo_gateway.domain.desired import Cause, Desired, Placement
from ciclo_gateway.domain.packing import Version
from ciclo_gateway.domain.routing import Route
from ciclo_gateway.domain.tensors import Signature


@dataclass(slots=True)
class Catalog:
    """Models and versions, in memory; what must survive is in the journal, and read from it first.

    Attributes:
        desired: Newest statement of the registry, by model.
        routes: What Envoy confirmed, by model.
        versions: All that were ever loaded, with what they take and give, by model and number.
        answering: Versions that answer rightly now, by placement and model.
        failing: Versions whose last load did not end well, likewise.
    """

    desired: dict[str, Desired] = field(default_factory=dict)
    routes: dict[str, Route] = field(default_factory=dict)
    versions: dict[tuple[str, int], tuple[Version, Signature]] = field(default_factory=dict)

    answering: dict[tuple[Placement, str], frozenset[int]] = field(default_factory=dict)
    failing: dict[tuple[Placement, str], frozenset[int]] = field(default_factory=dict)

    def version(self, model: str, number: int) -> tuple[Version, Signature | None]:
        """Returns a version as it is to be named, and its signature if it was ever loaded."""
        return self.versions.get((model, number), (Version(model, number), None))

    def cause(self, model: str) -> Cause:
        """Returns why a model is wanted as it is; nothing for one that is wanted no more."""
        desired = self.desired.get(model)
        return desired.cause if desired else Cause()

    def require_model(self, model: str) -> Desired:
        """Returns what is wanted of a model.

        Raises:
            NotFound: The registry knows no such model.
        """
        if model not in self.desired:
            raise NotFound(
                f"no model {model!r}, there are {sorted(self.desired)}: `ciclo apply` brings one",
                reason="UNKNOWN_MODEL",
                field="model",
            )
        return self.desired[model]

    def require_signature(self, model: str) -> Signature:
        """Returns what the versions of a model that serve take and give.

        Raises:
            NotFound: The registry knows no such model, or none of its versions serves.
            Retry: It should be served, and is not yet.
        """
        desired = self.require_model(model)
        route = self.routes.get(model)
        if route is not None:
            found = self.versions.get((model, route.shares[0].version))
            if found:
                return found[1]
        if desired.champion is None:
            raise NotFound(
                f"model {model!r} has no version that serves yet: train one, or wait for it",
                reason="NO_VERSION",
                field="model",
            )
        raise Retry(f"model {model!r} is being loaded", reason="LOADING")
