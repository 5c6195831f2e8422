"""What the gateway is told by its environment."""

from datetime import timedelta
from pathlib import Path

from ciclo_runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """Settings of the gateway, read from `CICLO_<FIELD>`.

    `state_dir` is the folder of the whole stack: spool, Triton's repositories and Envoy's files
    lie in it, since gateway, Triton and Envoy share them.
    """

    feature_store_address: str
    """gRPC address of the feature-store."""

    triton_serving_address: str
    """gRPC address of the Triton that answers callers."""

    triton_shadow_address: str
    """gRPC address of the Triton that is asked again."""

    envoy_address: str
    """The client port of Envoy: predictions by entity take the same way as those by tensor."""

    envoy_admin: str
    """Envoy's admin page, `http://host:port`; loopback only."""

    spool_segment_bytes: int = 64 * 2**20
    """A spool file above this size is rotated."""

    spool_total_bytes: int = 2 * 2**30
    """Above this size shipped spool files are deleted, then, at the cost of being counted, others.
    """

    spool_poll_interval: timedelta = timedelta(milliseconds=100)
    """How often the spool is looked at when nothing is new; adds to the age of a prediction event.
    """

    reconcile_interval: timedelta = timedelta(seconds=1)
    """Longest time until a lease that ran out, or a Triton that came back, is noticed."""

    load_timeout: timedelta = timedelta(seconds=60)
    """After it a load is put off; a version whose loads are put off again and again, and that never
    answered rightly, is quarantined."""

    parity_tolerance: float = 1e-4
    """Greatest difference from the bundle's parity vectors. The trainer's own limit plus the
    differences between processors."""

    max_rows: int = 10_000
    """Rows in one run of a graph, and the most that a request by tensor may have."""

    shadow_rows_per_second: float = 5_000.0
    """How fast captured requests are asked again at most. A backlog is worked off at this rate."""

    shadow_chunk_rows: int = 1_000
    """Rows of one call to the shadow Triton, and of one event."""

    @property
    def home(self) -> Path:
        """The gateway's own files."""
        return self.state_dir / "gateway"
