"""What the monitor is told by its environment."""

from datetime import timedelta

from ciclo_runtime.settings import Duration, ServiceSettings


class Settings(ServiceSettings):
    """The monitor's settings."""

    snapshot_interval: Duration = timedelta(seconds=2)
    """Longest wall time between two snapshots of the state. What was read since is read again after
    a kill; nothing is told twice."""

    heartbeat_interval: Duration = timedelta(seconds=5)
    """Wall time between two statements of state where nothing changes. Keep well below a minute:
    the registry stops renewing a canary's lease when the monitor falls silent."""

    most_rows: int = 2_000_000
    """Rows kept for a model, about 250 bytes each; beyond that the oldest are dropped, counted."""
