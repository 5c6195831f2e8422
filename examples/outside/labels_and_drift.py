"""An outside program: reports a label and listens for drift, with plain aiokafka and protobuf.

Nothing of Ciclo is used but the code generated from `protos/`; any language can do the same.

    python labels_and_drift.py --bootstrap 127.0.0.1:17602 --model churn --row-key c-17 --label 1
    python labels_and_drift.py --bootstrap 127.0.0.1:17602 --model churn --listen 60
"""

from __future__ import annotations

import argparse
import asyncio
import uuid
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from ciclo.events.v1.drift_detected_pb2 import DriftDetected
from ciclo.events.v1.labels_reported_pb2 import Label, LabelsReported
from ciclo.events.v1.performance_degraded_pb2 import PerformanceDegraded

TYPES = {kind.DESCRIPTOR.full_name: kind for kind in (DriftDetected, PerformanceDegraded)}


async def report(
    bootstrap: str, env: str, model: str, row_key: str, value: float, known: datetime | None
) -> None:
    """Sends one label as a CloudEvent in binary mode: attributes as headers, protobuf as value.

    Args:
        bootstrap: Kafka's address.
        env: First word of the topic.
        model: The model.
        row_key: Business key of the row that the label is about.
        value: 0 or 1.
        known: When it became known, in the time that the model lives in; None: now.
    """
    now = datetime.now(UTC)  # noqa: TID251 -- a program of its own
    time_us = int((known or now).timestamp() * 1e6)
    label = Label(row_key=row_key, value=value, event_time_us=time_us)
    message = LabelsReported(model=model, labels=[label])
    headers = {
        "ce_specversion": "1.0",
        "ce_id": str(uuid.uuid4()),
        "ce_source": "/example/outside",
        "ce_type": message.DESCRIPTOR.full_name,
        "ce_subject": model,
        "ce_time": now.isoformat().replace("+00:00", "Z"),
        "content-type": "application/protobuf",
    }
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        await producer.send_and_wait(
            f"{env}.ciclo.labels.v1",
            message.SerializeToString(),
            key=model.encode(),
            headers=[(name, text.encode()) for name, text in headers.items()],
        )
    print(f"reported: {model} {row_key} = {value}")


async def listen(bootstrap: str, env: str, model: str, seconds: float) -> None:
    """Prints what the monitor found, from the beginning of the topic on."""
    async with AIOKafkaConsumer(
        f"{env}.ciclo.monitoring.v1", bootstrap_servers=bootstrap, auto_offset_reset="earliest"
    ) as consumer:
        try:
            async with asyncio.timeout(seconds):
                async for record in consumer:
                    headers = {name: value.decode() for name, value in record.headers}
                    kind = TYPES.get(headers["ce_type"])
                    if kind and headers["ce_subject"] == model:
                        event = kind.FromString(record.value)
                        when = event.detect_time.ToJsonString()
                        print(f"{when} {kind.__name__} in cycle {headers['ce_correlationid']}")
        except TimeoutError:
            print(f"listened for {seconds:.0f} s")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Report a label, or listen for drift.")
    parser.add_argument("--bootstrap", default="127.0.0.1:17602", help="Kafka's address")
    parser.add_argument("--env", default="local", help="first word of the topics")
    parser.add_argument("--model", required=True)
    parser.add_argument("--row-key", help="business key of the row that the label is about")
    parser.add_argument("--label", type=float, help="0 or 1")
    parser.add_argument("--known", type=datetime.fromisoformat, help="when it became known; now")
    parser.add_argument("--listen", type=float, default=0.0, help="seconds to listen for")
    given = parser.parse_args()
    if given.row_key and given.label is not None:
        where = (given.bootstrap, given.env, given.model)
        asyncio.run(report(*where, given.row_key, given.label, given.known))
    if given.listen:
        asyncio.run(listen(given.bootstrap, given.env, given.model, given.listen))


if __name__ == "__main__":
    main()
