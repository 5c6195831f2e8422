"""What the trainer is told by its environment."""

from datetime import timedelta

from ciclo_runtime.settings import Duration, ServiceSettings


class Settings(ServiceSettings):
    """The trainer's settings."""

    feature_store_address: str
    """`host:port` of the feature store, which cuts the datasets."""

    snapshot_timeout: Duration = timedelta(minutes=16)
    """How long a dataset may take to be cut; a run that waits longer tries again. Longer than the
    feature-store's `OFFLINE_TIME_LIMIT`, so that a cut that takes too long says so itself."""

    wait_limit: Duration = timedelta(hours=1)
    """How long a run waits, in wall time, for features that lag behind its cut, for the feature
    store or for blobs; then it fails and says for what it waited."""

    threads: int = 1
    """Processor threads of a run. Another number gives other weights in the last bits."""

    runs_kept: int = 20
    """Folders of ended runs that are kept for inspection; older ones are removed."""
