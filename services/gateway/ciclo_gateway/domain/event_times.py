"""Which event times are taken: one far ahead would move a model's clock, which never goes back."""

from typing import Final

DAY_US: Final = 86_400_000_000
"""A day in microseconds: how far ahead of the wall clock an event time may lie. Callers' clocks
differ by less; a time in nanoseconds lies thousands of years ahead."""

EXPECTED: Final = "expected microseconds since 1970, at most one day ahead of the clock"


def problem_of(event_time_us: int, now_us: int) -> str:
    """Returns why an event time cannot be taken; empty if it can."""
    if event_time_us < 0:
        return f"is {event_time_us}, before 1970: {EXPECTED}"
    if event_time_us > now_us + DAY_US:
        return f"is {(event_time_us - now_us) // DAY_US} days ahead: {EXPECTED}"
    return ""
