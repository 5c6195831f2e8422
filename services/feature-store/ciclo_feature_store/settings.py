"""What the feature store is told by its environment."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ciclo_runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """Settings of the feature store, read from `CICLO_<FIELD>`."""

    online_rows_per_entity: Annotated[int, Field(ge=1)] = 256
    """How many of each entity's newest rows are readable online, per view. Reads of an earlier
    time are refused, so keep at least the knowledge lag plus the lateness of requests."""

    flush_interval: Annotated[timedelta, Field(gt=timedelta(0))] = timedelta(seconds=1)
    """Greatest wall time between the arrival of a row and its commit to a table. Less means more
    and smaller files; a crash costs re-reading, never rows."""

    flush_rows: Annotated[int, Field(ge=1)] = 20_000
    """So many rows are committed at once, however little time has passed."""

    catch_up_timeout: Annotated[timedelta, Field(gt=timedelta(0))] = timedelta(seconds=30)
    """How long a cut waits until everything in the topics is stored."""

    compact_after_commits: Annotated[int, Field(ge=2)] = 128
    """Commits of a table after which its small files are rewritten as one."""

    offline_at_start: bool = True
    """Whether the process that imports Feast (6 to 20 s of one core) is started with the service,
    or by the first task that needs it."""

    offline_time_limit: Annotated[timedelta, Field(gt=timedelta(0))] = timedelta(minutes=15)
    """How long one cut or audit may take; then its process is replaced and it fails."""

    @property
    def home(self) -> Path:
        """Folder of this service's files."""
        return self.state_dir / "feature-store"

    @property
    def tables(self) -> Path:
        """Folder of the Delta tables."""
        return self.home / "delta"
