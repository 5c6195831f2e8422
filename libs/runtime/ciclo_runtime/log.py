"""Log lines as an event name and fields: JSON, or pretty on a terminal; set up once by `run`."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from ciclo.cloudevents import Envelope

if TYPE_CHECKING:
    from structlog.typing import Processor

LogFormat = Literal["auto", "json", "pretty"]
"""`auto` is pretty where standard error is a terminal, JSON lines elsewhere."""

SPARING_SECONDS = 10.0
"""How often a library may write the same message: aiokafka tells of an absent Kafka 20 times a
second."""

_QUIET = {"aiokafka": logging.WARNING, "grpc": logging.WARNING, "asyncio": logging.WARNING}
"""Least severe level of libraries that tell much."""


def configure(level: str = "info", log_format: LogFormat = "auto") -> None:
    """Sends every line, ours and the libraries', to standard error in one form.

    Args:
        level: debug, info, warning, error or critical.
        log_format: See `LogFormat`.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    is_pretty = log_format == "pretty" or (log_format == "auto" and sys.stderr.isatty())
    # Tracebacks without local variables: those may hold people's data.
    last: list[Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if is_pretty
        else [
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    handler.addFilter(_Sparing())
    for name, at_least in _QUIET.items():
        logging.getLogger(name).setLevel(at_least)


@contextmanager
def about(envelope: Envelope) -> Iterator[None]:
    """Within it every line carries the event's id and its cycle's."""
    with structlog.contextvars.bound_contextvars(
        event_id=envelope.id, correlation_id=envelope.correlation_id
    ):
        yield


class _Sparing(logging.Filter):
    """Lets a library's message pass once in `SPARING_SECONDS`; our own lines always pass."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[tuple[str, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, dict):  # structlog's
            return True
        template = (record.name, record.msg)
        if record.created - self._passed.get(template, 0.0) < SPARING_SECONDS:
            return False
        self._passed[template] = record.created
        return True
