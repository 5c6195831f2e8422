"""What the registry is told by its environment."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from ciclo_runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """Variables `CICLO_<FIELD>`; those that all services share are the base class's."""

    rollout_stall: Annotated[timedelta, Field(gt=timedelta(0))] = timedelta(minutes=15)
    """Wall time without progress after which a rollout is taken back. Progress is a judgement, or
    event time that moves on towards the next. Raise it where requests rest for longer than that,
    for example at night."""

    lease: Annotated[timedelta, Field(ge=timedelta(seconds=1))] = timedelta(seconds=60)
    """Wall time for which a canary keeps its weight without being renewed. It is renewed when a
    third is used up, if the monitor has spoken within this time."""
