"""Draws a story: loss by day and version, evidence against threshold, intervals of the gain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np

from ciclo_drift import sum_by_block
from offline.examples import instant_us, losses
from offline.judging import closed
from offline.story import TRAFFIC_FROM, TRAFFIC_UNTIL

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from ciclo.loop import Loop
    from offline.examples import Asked
    from offline.judging import Compared
    from offline.story import Story

COLOURS = {"1": "#7a8288", "2": "#1f77b4", "bad": "#d62728"}


def draw(story: Story, asked: Asked, loop: Loop, path: Path) -> None:
    """Draws a story into a PNG file."""
    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, (top, middle, low) = plt.subplots(3, 1, figsize=(11, 10), sharex=True)
    _draw_losses(top, story, asked, loop)
    days = np.array(story.watched.days, "datetime64[D]")
    middle.semilogy(days, [max(rise.evidence, 0.1) for rise in story.watched.rises], color="k")
    middle.axhline(story.watched.rises[-1].threshold, color=COLOURS["bad"], linestyle="--")
    middle.set_ylabel("evidence of degradation")
    _draw_gain(low, story.shadow, COLOURS["2"], "version 2 against 1")
    _draw_gain(low, story.bad_shadow, COLOURS["bad"], "bad challenger against 2")
    low.axhline(0, color="k", linewidth=0.8)
    low.set_ylim(-0.5, 0.2)
    low.set_ylabel("gain of log loss, interval")
    low.legend(frameon=False)
    for axes in (top, middle, low):
        for time_us in (story.retrained_us, story.canary_us, story.full_us, story.forced_us):
            axes.axvline(np.datetime64(time_us, "us"), color="#cccccc", zorder=0)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_losses(axes: Axes, story: Story, asked: Asked, loop: Loop) -> None:
    rows = closed(asked, instant_us(TRAFFIC_FROM), instant_us(TRAFFIC_UNTIL), loop)
    since_us = {"1": 0, "2": story.retrained_us, "bad": story.completed_us}
    for name, version in story.versions.items():
        mine = rows[rows["event_time_us"] >= since_us[name]]
        lost = losses(mine["label"].to_numpy(), version.score(mine))
        sums = sum_by_block(mine["day"].to_numpy(), lost)
        axes.plot(
            np.asarray(sums.ids).astype("datetime64[D]"),
            sums.means,
            color=COLOURS[name],
            label=name,
        )
    axes.set_ylabel("log loss by day")
    axes.legend(title="version", frameon=False)


def _draw_gain(axes: Axes, compared: Compared, colour: str, label: str) -> None:
    days = np.array(compared.days, "datetime64[D]")
    lower = np.clip([state.lower for state in compared.states], -1, 1)
    upper = np.clip([state.upper for state in compared.states], -1, 1)
    axes.fill_between(days, lower, upper, color=colour, alpha=0.25)
    axes.plot(days, [state.gain for state in compared.states], color=colour, label=label)
