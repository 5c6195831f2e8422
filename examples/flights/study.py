"""The study behind the demo: over recorded flights, with the monitor's and the trainer's own code.

Run it: python examples/flights/study.py --out build/study [--seed 7] [--quick] [--json]
It tells the story for several seeds, plays the controls, and writes study.json and study.png.
"""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flights import read_restated, read_world
from offline.controls import equal, permuted, silent
from offline.examples import ask, day_name, instant_us
from offline.judging import closed, moved_features
from offline.plot import draw
from offline.story import BOOTSTRAP_CUT, TRAFFIC_FROM, TRAFFIC_UNTIL, tell

from ciclo.loop import read_loop

if TYPE_CHECKING:
    from flights import World
    from offline.examples import Asked
    from offline.judging import Compared
    from offline.story import Gate, Story

    from ciclo.loop import Loop

HERE = Path(__file__).parent


def main() -> None:
    """Runs the study as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/study"))
    parser.add_argument("--seed", type=int, default=7, help="the first of five; the recipe's is 7")
    parser.add_argument("--quick", action="store_true", help="one seed, one shuffle")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, too")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    options.out.mkdir(parents=True, exist_ok=True)
    loop = read_loop(HERE / "loop")
    world = read_world(options.out / "cache")
    asked = ask(world, world.features, loop.knowledge_lag)
    faulty = world.features | read_restated(options.out / "cache")
    restated = ask(world, faulty, loop.knowledge_lag)
    seeds = range(options.seed, options.seed + (1 if options.quick else 5))
    stories = []
    for seed in seeds:
        stories.append(tell(asked, restated, loop, seed))
        _print_story(stories[-1], first=seed == seeds[0])
    figures = {
        "stories": [figures_of(story) for story in stories],
        "features": _features(asked, loop),
        "controls": _controls(world, asked, loop, options.seed, quick=options.quick),
    }
    draw(stories[0], asked, loop, options.out / "study.png")
    text = json.dumps(figures, indent=2)
    (options.out / "study.json").write_text(text + "\n")
    if options.json:
        print(text)
    print(f"\nwritten: {options.out / 'study.json'}, {options.out / 'study.png'}")


def figures_of(story: Story) -> dict[str, Any]:
    """Returns the dates and figures of a story as JSON takes them."""
    alarm = story.watched.rises[-1]
    assert alarm.since_block is not None
    gains = np.array(story.bad_shadow.gains + story.bad_canary.gains)
    return {
        "seed": story.seed,
        "alarm_day": day_name_of(story.watched.days[-1]),
        "since": day_name_of(story.watched.days[alarm.since_block]),
        "rise": [round(x, 3) for x in (alarm.rise, alarm.lower, alarm.upper)],
        "retrained": day_name(story.retrained_us),
        "gate": asdict(story.gate),
        "shadow_days": len(story.shadow.days),
        "shadow_verdict": story.shadow.verdict,
        "gain": round(story.shadow.states[-1].gain, 3),
        "canary": day_name(story.canary_us),
        "worse_in_canary": story.canary.verdict == "worse",
        "full": day_name(story.full_us),
        "completed": day_name(story.completed_us),
        "bad_gate": asdict(story.bad_gate),
        "bad_shadow_days": len(story.bad_shadow.days),
        "bad_shadow_verdict": story.bad_shadow.verdict,
        "bad_gain": round(story.bad_shadow.states[-1].gain, 3),
        "bad_days_worse": f"{int((gains < 0).sum())} of {len(gains)}",
        "forced": day_name(story.forced_us),
        "taken_back": day_name(story.taken_back_us),
        "exposed_rows": story.exposed_rows,
    }


def day_name_of(day: int) -> str:
    """Returns the date of a UTC day number."""
    return str(np.datetime64(day, "D"))


def _print_story(story: Story, *, first: bool) -> None:
    if first:
        print(
            "seed  alarm  gate v2 (v1)         shadow            canary  100 %  baked"
            "  gate bad (v2)        shadow            forced  back   rows"
        )
    figures = figures_of(story)
    at = {
        name: figures[name][5:]
        for name in ("alarm_day", "canary", "full", "completed", "forced", "taken_back")
    }
    print(
        f"{story.seed:4d}  {at['alarm_day']}  {_gate(story.gate)}  {_verdict(story.shadow)}"
        f"  {at['canary']}   {at['full']}  {at['completed']}  {_gate(story.bad_gate)}"
        f"  {_verdict(story.bad_shadow)}  {at['forced']}   {at['taken_back']}"
        f"  {story.exposed_rows}",
        flush=True,
    )


def _gate(gate: Gate) -> str:
    return f"{gate.loss:.3f} ({gate.champion_loss:.3f}) {'pass' if gate.passes else 'FAIL'}"


def _verdict(compared: Compared) -> str:
    return f"{compared.verdict:6s} {len(compared.days):2d} d {compared.states[-1].gain:+.3f}"


def _features(asked: Asked, loop: Loop) -> dict[str, object]:
    cut_us = instant_us(BOOTSTRAP_CUT)
    reference = asked.known(instant_us("2013-01-02"), cut_us, cut_us)
    live = closed(asked, instant_us(TRAFFIC_FROM), instant_us(TRAFFIC_UNTIL), loop)
    found = moved_features(reference, live, loop)
    print(f"moved features (reported, never acted on): {found}", flush=True)
    return found


def _controls(
    world: World, asked: Asked, loop: Loop, seed: int, *, quick: bool
) -> dict[str, object]:
    shuffled = permuted(world, loop, seed, shuffles=1 if quick else 8)
    print(f"permuted:  {shuffled}", flush=True)
    labelless = silent(world, loop, seed)
    print(f"no labels: {labelless}", flush=True)
    same = equal(asked, loop, seed, seeds=2 if quick else 5)
    for spans in same:
        print(f"equal:     {spans}", flush=True)
    return {
        "permuted": asdict(shuffled),
        "no_labels": asdict(labelless),
        "equal": [asdict(spans) for spans in same],
    }


if __name__ == "__main__":
    main()
