"""Events on Kafka: CloudEvents 1.0 in binary mode, the value being the protobuf message alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, to_binary
from cloudevents.core.exceptions import BaseCloudEventException
from cloudevents.core.formats.base import Format
from cloudevents.core.v1.event import CloudEvent
from google.protobuf.message import DecodeError, Message

from ciclo.errors import Reject
from ciclo.topics import event_class

CONTENT_TYPE = "application/protobuf"
"""Of every event's value."""

REQUIRED_HEADERS = ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "content-type")
"""The CloudEvents library invents an id, a time and a version where they are missing; a repeat
of such an event would not be recognised."""


class MalformedEvent(Reject):
    """A record is not a CloudEvent of ours: a header is missing, or the value does not decode."""

    reason = "MALFORMED_EVENT"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is said of an event beside its message.

    Args:
        id: Unique with `source`; a repeat is the same event.
        source: Who says it, as `/ciclo/<env>/<service>`.
        subject: The model's or view's name; the Kafka key.
        time: Wall time at which it was said. UTC.
        correlation_id: The cycle that it belongs to; empty for none.
        causation_id: `id` of the event that caused it; empty for none.
        traceparent: W3C trace context; empty for none.
    """

    id: str
    source: str
    subject: str
    time: datetime
    correlation_id: str = ""
    causation_id: str = ""
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A Kafka record, as producers take it."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def encode(envelope: Envelope, message: Message) -> Record:
    """Returns the record of an event. Equal events have equal bytes."""
    attributes: dict[str, object] = {
        "specversion": "1.0",
        "id": envelope.id,
        "source": envelope.source,
        "type": message.DESCRIPTOR.full_name,
        "subject": envelope.subject,
        "time": envelope.time,
        "datacontenttype": CONTENT_TYPE,
        "correlationid": envelope.correlation_id or None,
        "causationid": envelope.causation_id or None,
        "traceparent": envelope.traceparent or None,
    }
    event = CloudEvent(
        {name: value for name, value in attributes.items() if value is not None},
        message.SerializeToString(deterministic=True),
    )
    packed = to_binary(event, _Raw(), key_mapper=lambda _: envelope.subject)
    return Record(envelope.subject.encode(), packed.value, tuple(sorted(packed.headers.items())))


def decode(value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> tuple[Envelope, Message]:
    """Returns the event of a record.

    Raises:
        MalformedEvent: It is none of ours; says which header or type is wrong.
    """
    given = dict(headers)
    missing = [name for name in REQUIRED_HEADERS if name not in given]
    if missing:
        raise MalformedEvent(f"headers are missing: {', '.join(missing)}", field=missing[0])
    try:
        event = from_binary(KafkaMessage(given, None, value or b""), _Raw(), CloudEvent)
        attributes = event.get_attributes()
        if attributes.get("datacontenttype") != CONTENT_TYPE:
            raise MalformedEvent(
                f"content-type is {attributes.get('datacontenttype')!r}, expected {CONTENT_TYPE!r}",
                field="content-type",
            )
        message = event_class(event.get_type())()
        message.ParseFromString(value or b"")
    except (BaseCloudEventException, ValueError) as error:
        raise MalformedEvent(
            f"the headers are not those of a CloudEvent: {error}", field="headers"
        ) from error
    except LookupError as error:
        raise MalformedEvent(f"no event has the type {error}", field="ce_type") from error
    except DecodeError as error:
        raise MalformedEvent(
            f"the value is no {event.get_type()}: {error}", field="value"
        ) from error
    envelope = Envelope(
        id=event.get_id(),
        source=event.get_source(),
        subject=event.get_subject() or "",
        time=event.get_attributes()["time"],
        correlation_id=str(event.get_extension("correlationid") or ""),
        causation_id=str(event.get_extension("causationid") or ""),
        traceparent=str(event.get_extension("traceparent") or ""),
    )
    return envelope, message


class _Raw(Format):
    """Hands the data over as it is: protobuf is encoded by protobuf."""

    def write_data(self, data: object, datacontenttype: str | None) -> bytes:
        del datacontenttype
        assert isinstance(data, bytes)
        return data

    def read_data(self, body: bytes, datacontenttype: str | None) -> bytes:
        del datacontenttype
        return body

    def write(self, event: object) -> bytes:
        raise NotImplementedError("structured mode is not written")

    def read(self, event_factory: object, data: object) -> CloudEvent:
        raise NotImplementedError("structured mode is not read")

    def get_content_type(self) -> str:
        return CONTENT_TYPE
