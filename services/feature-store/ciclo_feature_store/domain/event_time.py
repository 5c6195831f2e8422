"""Event times for people: errors tell them."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def as_text(time_us: int) -> str:
    """Returns an event time in microseconds since the epoch as `2013-06-20 14:00 UTC`.

    Example:
        >>> as_text(1_371_736_800_000_000)
        '2013-06-20 14:00 UTC'
    """
    return f"{EPOCH + timedelta(microseconds=time_us):%Y-%m-%d %H:%M} UTC"
