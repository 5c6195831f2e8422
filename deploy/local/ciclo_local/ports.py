"""Where everything listens: one base port and a fixed offset for each listener.

Fixed offsets, because choosing free ports first is a race, and because people learn them.
"""

from dataclasses import dataclass, fields

DEFAULT_BASE = 17600
"""Below Linux's range of ephemeral ports (32768 and up), from which any client may take one."""

BLOCK = 40
"""How many ports a stack reserves; two stacks' bases lie at least this far apart."""

LOOPBACK = "127.0.0.1"
"""The only interface that the local stack listens on: nothing in it asks who is calling."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The port of each listener.

    Offsets 20 to 39 are reserved; 20, 21 and 22 are Prometheus, Alertmanager and Grafana.
    """

    envoy: int
    envoy_admin: int
    kafka: int
    kafka_controller: int
    triton_serving_http: int
    triton_serving: int
    triton_serving_metrics: int
    triton_shadow_http: int
    triton_shadow: int
    triton_shadow_metrics: int
    feature_store: int
    feature_store_metrics: int
    trainer: int
    trainer_metrics: int
    registry: int
    registry_metrics: int
    gateway: int
    gateway_metrics: int
    monitor: int
    monitor_metrics: int

    @classmethod
    def from_base(cls, base: int) -> "Ports":
        """Returns the ports of the stack at `base`; a listener's offset is its field's place.

        Args:
            base: The first port of the block. 1024 <= base <= 65536 - BLOCK.
        """
        return cls(*range(base, base + len(fields(cls))))

    def addresses(self) -> dict[str, str]:
        """Returns `host:port` of each listener by its name, with dashes: `feature-store`."""
        return {
            field.name.replace("_", "-"): address(getattr(self, field.name))
            for field in fields(self)
        }


def address(port: int) -> str:
    """Returns `host:port` on the loopback interface."""
    return f"{LOOPBACK}:{port}"
