"""`ciclo demo`: plays the story or a control over the whole system, and checks what happened."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from checks import check_all
from figures import collect, ids_at_rest, open_tables, read_served
from page import write_page
from screen import Screen
from story import CONTROLS, Plan, Story
from system import CommandFailed, Services, System

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build"

SETTLE_SECONDS = 30.0
"""How long the last answers may take to reach Kafka and Delta."""


async def play(plan: Plan, state: Path, to: Path, *, keep: bool) -> dict[str, Any]:
    """Plays a plan; returns its figures with the checks.

    Args:
        plan: What is played.
        state: Folder of the system.
        to: File for the figures; the page lies beside it.
        keep: Leave the system up.
    """
    begun = time.perf_counter()
    system = System(state)
    with Screen(start_us=plan.start, end_us=plan.end) as screen:
        story = Story(plan, system, HERE / "loop", BUILD / "flights", screen)
        try:
            await story.run()
            screen.stage("checking against topics, tables, registry and Triton")
            async with Services(system.addresses) as services:
                await _settle(system, services, {call.caller_id for call in story.played.calls})
                figures = await collect(system, services, story.played, story.told)
                checks = await check_all(plan, figures, system, services)
        finally:
            if not keep:
                await system.down(purge=False)
        figures["seconds"]["total"] = time.perf_counter() - begun
        passed = all(check["passed"] for check in checks)
        figures = {"control": plan.control, "passed": passed, "checks": checks, **figures}
        _write(figures, to)
        screen.summary(figures, to.with_suffix(".html"))
    return figures


def _write(figures: dict[str, Any], to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(json.dumps(figures, indent=1, default=str))
    write_page(figures, to.with_suffix(".html"))


async def _settle(system: System, services: Services, callers: set[str]) -> None:
    """Waits until the last answers are at rest, or for the time that this may take."""
    until = time.perf_counter() + SETTLE_SECONDS
    while time.perf_counter() < until:
        served = await read_served(system)
        with closing(open_tables(dict((await services.history()).table_urls))) as tables:
            at_rest = ids_at_rest(tables)
        if callers <= served.ids & at_rest:
            return
        await asyncio.sleep(1.0)


def main() -> None:
    """Reads the command line; exits 0 only if all of it happened."""
    parser = argparse.ArgumentParser(prog="ciclo demo", description=__doc__)
    parser.add_argument("--control", default="", choices=sorted(CONTROLS), help="play a control")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--keep", type=Path, help="keep everything in this folder, system up")
    given = parser.parse_args()
    name = f"demo-{given.control}" if given.control else "demo"
    state = given.keep or BUILD / name
    to = given.json or (state.parent / f"{name}.json")
    try:
        figures = asyncio.run(play(CONTROLS[given.control], state, to, keep=bool(given.keep)))
    except (CommandFailed, TimeoutError) as error:
        sys.exit(f"ciclo demo: {error}; the logs are in {state / 'log'}")
    sys.exit(0 if figures["passed"] else 1)


if __name__ == "__main__":
    main()
