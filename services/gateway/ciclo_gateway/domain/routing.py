"""The routing table that Envoy's script reads: which version answers which share of a model."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ciclo_gateway.domain.desired import Share

WEIGHT_UNITS = 10_000
"""Whole units that a model's weights are divided into."""


@dataclass(frozen=True, slots=True)
class Route:
    """How one model is routed.

    Attributes:
        generation: Of the registry's state that asked for it.
        salt: Of the choice of a version.
        shares: In the order in which Envoy chooses; not empty.
    """

    generation: int
    salt: str
    shares: tuple[Share, ...]

    def is_like(self, other: "Route | None") -> bool:
        """Tells whether two routes send every request to the same version."""
        return other is not None and (self.salt, self.shares) == (other.salt, other.shares)


def table(routes: Mapping[str, Route]) -> dict[str, Any]:
    """Returns the table for Envoy's script, by model."""
    return {
        model: {
            "salt": route.salt or model,
            "versions": [
                {
                    "version": str(share.version),
                    "weight": round(share.weight * WEIGHT_UNITS),
                    "variant": share.variant,
                }
                for share in route.shares
            ],
        }
        for model, route in sorted(routes.items())
    }


def table_digest(routes: Mapping[str, Route]) -> str:
    """Returns the digest of the table: equal tables, equal digests, whatever the generations."""
    text = json.dumps(table(routes), sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def encode_route(route: Route) -> str:
    """Returns a route as it is kept for the next start."""
    shares = [[s.version, s.variant, s.weight] for s in route.shares]
    return json.dumps({"generation": route.generation, "salt": route.salt, "shares": shares})


def decode_route(text: str) -> Route:
    """The inverse of `encode_route`."""
    found = json.loads(text)
    return Route(found["generation"], found["salt"], tuple(Share(*s) for s in found["shares"]))
