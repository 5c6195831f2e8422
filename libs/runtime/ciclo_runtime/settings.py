"""What a service is told by its environment; each service subclasses `ServiceSettings`."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ciclo.errors import Fatal
from ciclo_runtime.log import LogFormat

PREFIX = "CICLO_"
"""Every variable's; the same names for all services, so that one environment can serve them."""

Port = Annotated[int, Field(ge=0, le=65535)]
"""0 means any free port, which only tests want."""

Duration = Annotated[timedelta, BeforeValidator(lambda value: _seconds(value))]
"""A time span, written as seconds (`25`, `0.5`) or ISO 8601 (`PT25S`)."""

S = TypeVar("S", bound="ServiceSettings")


class SettingsError(Fatal):
    """The environment does not hold what the service needs; the message lists every problem."""

    reason = "SETTINGS"


class ServiceSettings(BaseSettings):
    """The settings that all services share, read from `CICLO_<FIELD>`.

    A service's own durations are of the type `Duration`.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    env: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")] = "local"
    """First word of every topic and consumer group, so that throw-away copies can share a Kafka:
    lower-case letters, digits, hyphens."""

    state_dir: Path
    """Folder that holds this service's files. Made if it is missing."""

    kafka_bootstrap: Annotated[str, Field(pattern=r"^[^\s:,]+:\d+(,[^\s:,]+:\d+)*$")] = (
        "127.0.0.1:9092"
    )
    """Kafka brokers, `host:port[,host:port]`."""

    host: str = "127.0.0.1"
    """Interface that gRPC and metrics listen on. Loopback unless said otherwise: neither has
    authentication of its own."""

    grpc_port: Port
    """Port of this service's gRPC API, health included."""

    metrics_port: Port
    """Port of `/metrics` (Prometheus)."""

    blob_url: Annotated[str, Field(pattern=r"^[a-z0-9+.-]+://")]
    """Root of bundles, loop definitions and snapshots, for example `file:///var/lib/ciclo/blobs`."""

    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    """Least severe level that is written."""

    log_format: LogFormat = "auto"
    """`json`, `pretty`, or `auto`: pretty on a terminal."""

    drain_timeout: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(seconds=25)
    """How long `stop` waits for work in flight. Keep below the supervisor's 30 s of grace, or the
    process is killed before offsets are committed."""

    @property
    def grpc_address(self) -> str:
        """`host:grpc_port`."""
        return f"{self.host}:{self.grpc_port}"

    @property
    def metrics_address(self) -> str:
        """`host:metrics_port`."""
        return f"{self.host}:{self.metrics_port}"


def load(settings_type: type[S]) -> S:
    """Reads the environment.

    Returns:
        The settings, valid as a whole.

    Raises:
        SettingsError: With all problems in one message: variable, value, what was expected.
    """
    try:
        return settings_type()  # type: ignore[call-arg]  # the environment gives them
    except ValidationError as error:
        problems = [
            _problem(settings_type, tuple(map(str, entry["loc"])), entry["type"], entry["msg"])
            for entry in error.errors(include_url=False)
        ]
        raise SettingsError(
            f"{len(problems)} setting(s) of {settings_type.__name__} cannot be used:\n"
            + "\n".join(problems)
        ) from error


def _seconds(value: object) -> object:
    try:
        return timedelta(seconds=float(value)) if isinstance(value, str) else value
    except ValueError:
        return value  # ISO 8601, or nonsense: pydantic says which


def _problem(settings_type: type[S], place: tuple[str, ...], kind: str, message: str) -> str:
    field = place[0] if place else ""
    variable = f"{PREFIX}{field.upper()}"
    info = settings_type.model_fields.get(field)
    # A whole-model validator has no field; its message must say what it is about.
    if info is None:
        return f"  {message}"
    what = " ".join((info.description or "").split())
    given = "is not set" if kind == "missing" else f"is {os.environ.get(variable, '')!r}: {message}"
    return f"  {variable} {given}\n    {field}: {what}"
