"""Event times: as a person writes them, and where the clock of a model stands."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from ciclo.cli.connection import Connection
from ciclo.errors import NotFound, Reject
from ciclo.monitoring.v1.monitoring_service_pb2 import GetModelHealthRequest
from ciclo.monitoring.v1.monitoring_service_pb2_grpc import MonitoringServiceStub


def parse_event_time(text: str, option: str) -> Timestamp:
    """Returns the time that a date or a time stands for; UTC where it names no zone.

    Args:
        text: Such as `2024-03-01`, `2024-03-01T12:00:00Z` or `2024-03-01T12:00+01:00`.
        option: The option that holds it, for the error.

    Raises:
        Reject: It is neither.

    Example:
        >>> parse_event_time("2024-03-01T01:30+01:00", "--as-of").ToJsonString()
        '2024-03-01T00:30:00Z'
    """
    found = Timestamp()
    try:
        read = datetime.fromisoformat(text)
        found.FromDatetime((read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC))
    except (ValueError, OverflowError):
        raise Reject(
            f"{option} is {text!r}, expected a date or a time as in RFC 3339, such as 2024-03-01 "
            "or 2024-03-01T12:00:00Z",
            field=option,
        ) from None
    return found


def model_clock(connection: Connection, model: str) -> Timestamp | None:
    """Returns the newest event time of a model's requests; None where none was seen yet.

    Raises:
        Retry: The monitor does not answer.
    """
    try:
        with connection.stub("monitor", MonitoringServiceStub) as monitor:
            state = monitor.GetModelHealth(GetModelHealthRequest(model=model), timeout=10).state
    except NotFound:
        return None
    return state.watermark_time if state.HasField("watermark_time") else None
