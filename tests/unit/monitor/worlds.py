"""Small worlds for the monitor's tests: days of rows with scores and labels."""

import numpy as np

from ciclo_drift import StreamSet, expected_log_loss, log_loss
from ciclo_monitor.domain.batches import Answers, Labels, key_of
from ciclo_monitor.domain.calendar import Calendar
from ciclo_monitor.domain.findings import RolloutView, Stage, Version
from ciclo_monitor.domain.model import ModelMonitor
from ciclo_monitor.domain.performance import HeldOut
from ciclo_monitor.domain.watch import Champion, WatchPolicy

HOUR = 3_600_000_000
DAY = 24 * HOUR
START = 15_000
"""First block of every world."""

CALENDAR = Calendar(DAY, 12 * HOUR, 3 * DAY)
POLICY = WatchPolicy(
    calendar=CALENDAR,
    kept_us=40 * DAY,
    most_rows=1_000_000,
    tolerance=0.02,
    budget_blocks=365,
    budget="1 per 365d",
    least_captured=0.99,
    margin=0.005,
    alpha=0.05,
    exposure_at_most=100,
)
V1, V2 = Version(1, "sha256:1", "sha256:s"), Version(2, "sha256:2", "sha256:s")
ROLLOUT = RolloutView("r-1", "cycle", "cause", V1, V2, Stage.SHADOW, START * DAY)
ROWS_A_DAY = 200


def world(days, seed=0, *, degraded_from=None, shifted_from=None):
    """Returns arrays by day: event times, inputs, true probabilities and labels."""
    rng = np.random.default_rng(seed)
    found = []
    for day in range(days):
        logit = rng.normal(-1.0, 1.0, ROWS_A_DAY) + rng.normal(0, 0.1)
        true = logit + (1.2 if degraded_from is not None and day >= degraded_from else 0.0)
        x = rng.normal(size=ROWS_A_DAY) + (
            1.0 if shifted_from is not None and day >= shifted_from else 0.0
        )
        p = 1 / (1 + np.exp(-true))
        times = (START + day) * DAY + np.sort(rng.integers(0, DAY, ROWS_A_DAY))
        found.append(
            {
                "times": times,
                "score": 1 / (1 + np.exp(-logit)),
                "truth": p,
                "label": (rng.random(ROWS_A_DAY) < p).astype(float),
                "x": x,
                "keys": np.array([key_of(f"k{day}/{n}") for n in range(ROWS_A_DAY)]),
            }
        )
    return found


def answers(day, *, version=1, rollout=0, scores=None, is_challenger=False, part=slice(None)):
    scores = day["score"] if scores is None else scores
    return Answers(
        version=version,
        is_challenger=is_challenger,
        rollout=rollout,
        keys=day["keys"][part],
        row_keys=day["keys"][part] + 1,
        event_time_us=day["times"][part],
        scores=scores[part],
        columns={} if rollout else {"x": day["x"][part]},
    )


def labels(day, *, delay=2 * HOUR, part=slice(None)):
    return Labels(day["keys"][part] + 1, day["label"][part], day["times"][part] + delay)


def champion(version=V1):
    reference = world(30, seed=99)
    held_out = reference[:12]
    blocks = np.repeat(np.arange(30), ROWS_A_DAY)
    streams = StreamSet.fit(
        {
            "x": np.concatenate([d["x"] for d in reference]),
            "score": np.concatenate([d["score"] for d in reference]),
        },
        blocks=blocks,
        budget_blocks=365,
    )
    return Champion(
        version,
        HeldOut(
            np.array([log_loss(d["score"], d["label"]).sum() for d in held_out]),
            np.array([expected_log_loss(d["score"]).sum() for d in held_out]),
            np.full(12, ROWS_A_DAY),
        ),
        streams,
    )


def monitor(policy=POLICY):
    found = ModelMonitor("churn", policy)
    found.set_champion(champion())
    return found


def play(found, days):
    """Feeds days with their labels; returns what was found."""
    findings = []
    for day in days:
        findings += found.fold_answers(answers(day))
        findings += found.fold_labels(labels(day))
    return findings
