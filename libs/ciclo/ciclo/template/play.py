"""Makes up a world of customers for churn, and plays it into Ciclo as sources and callers would.

Replace it by your own sources and callers: all that they need is `ciclo.client`, or the gRPC and
Kafka messages behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import numpy as np

MODEL: Final = "churn"
FEATURE_SERVICE: Final = "churn"
VIEW: Final = "activity"

START: Final = datetime(2024, 1, 1, tzinfo=UTC)
"""Day 0: history lies before it, traffic begins with it."""

CHANGE_DAY: Final = 20
"""On this day a rival makes an offer: those who use the service most begin to leave."""

SEED: Final = 5
MOOD = 0.3
AFTER = -0.1
CUSTOMERS: Final = 480
ROWS_AN_HOUR: Final = 20
LAG_HOURS: Final = 1
"""As `knowledge_lag` in loop.yaml."""

SLOWEST_LABEL_HOURS: Final = 20
"""Within `label.expected_within` of loop.yaml."""

PLANS: Final = ("free", "basic", "pro")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
READY_SECONDS: Final = 120.0
"""How long the first request waits for a version that serves."""


@dataclass(frozen=True, slots=True)
class Renewals:
    """Subscriptions that come up for renewal within an hour; every array is [n]."""

    columns: dict[str, Any]
    cancelled: np.ndarray[Any, np.dtype[np.float64]]
    label_hour: np.ndarray[Any, np.dtype[np.int64]]


@lru_cache(maxsize=8)
def activity(day: int) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """What is known of each customer from `day` on: the fields of the view by name, [CUSTOMERS]."""
    habit = np.random.default_rng(SEED).normal(size=CUSTOMERS)
    dice = np.random.default_rng((SEED, 1, day + 10_000))
    visits = dice.poisson(np.exp(1.3 + 0.7 * habit)).astype(np.float64)
    return {
        "visits": visits,
        "minutes": np.round(visits * dice.gamma(4.0, 3.0, CUSTOMERS), 1),
        "tickets": dice.poisson(0.5, CUSTOMERS).astype(np.float64),
        "idle_days": np.round(dice.exponential(7.0 / (1.0 + visits)), 1),
    }


def observed(hour: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The customers whose activity is sent in an hour: each once a day."""
    return np.arange(hour % 24, CUSTOMERS, 24)


@lru_cache(maxsize=64)
def renewals(hour: int) -> Renewals:
    """The requests of an hour with their truth. A function of the hour alone."""
    dice = np.random.default_rng((SEED, 2, hour + 100_000))
    customer = dice.choice(CUSTOMERS, ROWS_AN_HOUR, replace=False)
    plan = dice.integers(len(PLANS), size=ROWS_AN_HOUR)
    price = np.round(plan * 10 * dice.choice([0.8, 1.0, 1.2], ROWS_AN_HOUR), 2)
    # What a request may know: the newest activity of an hour ago.
    day, hour_of_day = divmod(hour - LAG_HOURS, 24)
    today, before = activity(day), activity(day - 1)
    known = {
        name: np.where(customer % 24 <= hour_of_day, today[name][customer], before[name][customer])
        for name in today
    }
    logit = -1.2 + _leaning(known, plan, price, hour // 24 >= CHANGE_DAY)
    logit += MOOD * np.random.default_rng((SEED, 3, hour // 24 + 10_000)).normal()  # a day's mood
    return Renewals(
        {
            "renewal": [f"r{hour + 100_000}-{n}" for n in range(ROWS_AN_HOUR)],
            "customer": [f"c{n:03}" for n in customer],
            "plan": [PLANS[n] for n in plan],
            "price": price,
        },
        (dice.random(ROWS_AN_HOUR) < 1 / (1 + np.exp(-logit))).astype(np.float64),
        hour + dice.integers(4, SLOWEST_LABEL_HOURS, ROWS_AN_HOUR),
    )


def _leaning(known: dict[str, Any], plan: Any, price: Any, is_changed: bool) -> Any:
    use = np.log1p(known["visits"]) - 1.4
    common = 0.7 * (known["tickets"] - 0.5) + 0.05 * (price - 10 * plan)
    if is_changed:
        return common + AFTER * use + 0.5 * (plan == 2) - 0.3 * (plan == 0)
    return common - 1.2 * use - 0.3 * (plan == 0) + 0.1 * known["idle_days"]
