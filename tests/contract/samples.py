"""One sample of every event, each field filled from its number: what golden vectors are made of.

`python -m tests.contract.samples` adds a vector for an event that is new or has new fields. Those
that are there are never changed: records of that form are on topics that are kept for ever.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from ciclo.cloudevents import Envelope, Record, encode
from ciclo.topics import EVENTS, PACKAGE, event_class

FILE = Path(__file__).with_name("vectors.json")
"""Golden vectors by event, oldest first."""

ENVELOPE = Envelope(
    id="6f1c0a52-0000-4000-8000-000000000001",
    source="/ciclo/golden/sample",
    subject="churn",
    time=datetime(2013, 6, 20, 12, 0, 0, 500_000, tzinfo=UTC),
    correlation_id="cycle-1",
    causation_id="cause-1",
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)


def sample(name: str) -> Message:
    """Returns an event with every field filled."""
    return _filled(event_class(f"{PACKAGE}.{name}")())


def vector(message: Message) -> dict[str, Any]:
    """Returns the Kafka record of an event and what it says, as JSON holds them."""
    record: Record = encode(ENVELOPE, message)
    return {
        "key": record.key.decode(),
        "value": record.value.hex(),
        "headers": {header: value.decode() for header, value in record.headers},
        "message": MessageToDict(message, preserving_proto_field_name=True),
    }


def read_vectors() -> dict[str, list[dict[str, Any]]]:
    """Returns the golden vectors by event, oldest first."""
    found: dict[str, list[dict[str, Any]]] = json.loads(FILE.read_text())
    return found


def _filled(message: Message, depth: int = 0) -> Message:
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof and not field.has_presence:
            continue
        if field.message_type and field.message_type.GetOptions().map_entry:
            _fill_map(message, field)
        elif field.message_type:
            if depth < 4:
                child = getattr(message, field.name)
                _filled(child.add() if field.is_repeated else child, depth + 1)
        elif field.is_repeated:
            getattr(message, field.name).append(_scalar(field))
        else:
            setattr(message, field.name, _scalar(field))
    return message


def _fill_map(message: Message, field: FieldDescriptor) -> None:
    value = field.message_type.fields_by_name["value"]
    getattr(message, field.name)[f"key{field.number}"] = _scalar(value)


def _scalar(field: FieldDescriptor) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        is_bytes = field.type == FieldDescriptor.TYPE_BYTES
        return b"\x00\xffb" if is_bytes else f"text{field.number}"
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return field.number + 0.5
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return True
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return field.enum_type.values[-1].number
    return field.number


def add_missing() -> None:
    """Adds a vector for every event of which no vector fills all fields."""
    vectors = read_vectors()
    for name in EVENTS:
        full = vector(sample(name))
        if full not in vectors.setdefault(name, []):
            vectors[name].append(full)
    FILE.write_text(json.dumps(vectors, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    add_missing()
