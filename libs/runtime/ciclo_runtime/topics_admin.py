"""Creates the topics of `ciclo.topics`; every service does so at its start, in any order."""

import random
from datetime import timedelta

import structlog
from aiokafka.admin import NewTopic
from aiokafka.errors import NoError, TopicAlreadyExistsError, for_code

from ciclo.errors import Fatal, Retry
from ciclo.topics import DEAD_LETTERS, TOPICS, Topic
from ciclo_runtime import kafka
from ciclo_runtime.clock import Clock

DEAD_LETTER_BYTES = 2_097_152
"""Greatest dead letter: the greatest record there can be, plus the headers that are added."""

_log = structlog.get_logger(__name__)


class TopicsAdmin:
    """A part that starts once all topics exist. Existing ones are left as they are.

    Args:
        bootstrap: Kafka's address.
        env: First word of their names.
        clock: Times the retries.
        within: How long Kafka may take to answer.
        replication: Replicas of each topic; 1 on one machine.
    """

    def __init__(
        self,
        bootstrap: str,
        env: str,
        *,
        clock: Clock,
        within: timedelta = timedelta(seconds=60),
        replication: int = 1,
    ) -> None:
        self._bootstrap = bootstrap
        self._topics = [_new_topic(topic, env, replication) for topic in TOPICS]
        self._clock = clock
        self._within = within

    async def start(self) -> None:
        """Creates what is missing.

        Raises:
            Fatal: Kafka did not answer in time, or refuses.
        """
        rng = random.Random()
        deadline = self._clock.monotonic() + self._within.total_seconds()
        attempt = 0
        while True:
            try:
                await self._create()
                return
            except kafka.UNAVAILABLE as error:
                attempt += 1
                if self._clock.monotonic() >= deadline:
                    raise Fatal(
                        f"Kafka at {self._bootstrap} has not created the topics within "
                        f"{self._within}: is it running, is CICLO_KAFKA_BOOTSTRAP right? {error!r}",
                        reason="NO_KAFKA",
                    ) from error
                _log.warning("topics_not_created", error=repr(error), attempt=attempt)
                await self._clock.sleep(kafka.RECONNECT.delay(attempt, rng))

    async def stop(self) -> None:
        """Nothing stays open."""

    async def _create(self) -> None:
        admin = kafka.admin(self._bootstrap)
        try:
            await admin.start()
            answer = await admin.create_topics(self._topics)
        finally:
            await admin.close()
        for name, code, *detail in answer.topic_errors:
            error = for_code(code)
            if error not in (NoError, TopicAlreadyExistsError):
                raise Retry(f"topic {name}: {error.__name__} {detail}")


def _new_topic(topic: Topic, env: str, replication: int) -> NewTopic:
    retention = topic.retention
    configs = {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "retention.ms": str(int(retention.total_seconds() * 1000)) if retention else "-1",
    }
    if topic is DEAD_LETTERS:
        configs["max.message.bytes"] = str(DEAD_LETTER_BYTES)
    return NewTopic(
        name=topic.name(env),
        num_partitions=1,
        replication_factor=replication,
        topic_configs=configs,
    )
