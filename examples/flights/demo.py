"""`ciclo demo`: plays the story or a control over the whole system, and checks what happened."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checks import check_all
from figures import collect, read_served
from plans import CONTROLS, Plan
from screen import Screen
from story import Story
from story_checks import Check
from system import CommandFailed, Services, System
from tables import ids_at_rest, label_counts, open_tables

from ciclo.loop import read_loop
from ciclo_local.errors import StackRunning
from ciclo_local.settings import load
from ciclo_local.stack import require_down

if TYPE_CHECKING:
    from player import Played

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
                await _settle(system, services, story.played)
                figures = await collect(system, services, story.played, story.told)
                loop = read_loop(HERE / "loop")
                checks = await check_all(plan, loop, figures, system, services)
                checks.append(await _recomputed(figures, state, to))
        finally:
            if not keep:
                await system.down(purge=False)
        figures["seconds"]["total"] = time.perf_counter() - begun
        passed = all(check["passed"] for check in checks)
        figures = {"control": plan.control, "passed": passed, "checks": checks, **figures}
        _write(figures, to)
        from page import write_page

        write_page(figures, to.with_suffix(".html"))
        screen.summary(figures, to.with_suffix(".html"))
    return figures


def _write(figures: dict[str, Any], to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(json.dumps(figures, indent=1, default=str))


async def _recomputed(figures: dict[str, Any], state: Path, to: Path) -> dict[str, Any]:
    """Has another program find the figures again, of which it reads nothing but their file."""
    _write(figures, to)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(HERE / "recompute.py"), "--state", str(state), "--json", str(to)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    said = out.decode().strip().splitlines() or ["it said nothing"]
    detail = f"{said[-1]}{': ' if said[:-1] else ''}{'; '.join(said[:3][:-1])}"
    check = Check("the figures were recomputed with stock tools", not process.returncode, detail)
    return asdict(check)


async def _settle(system: System, services: Services, played: Played) -> None:
    """Waits until the last answers and labels are at rest, or for the time that this may take."""
    callers = {call.caller_id for call in played.calls}
    until = time.perf_counter() + SETTLE_SECONDS
    while time.perf_counter() < until:
        served = await read_served(system)
        with closing(open_tables(dict((await services.history()).table_urls))) as tables:
            at_rest, labels = ids_at_rest(tables), label_counts(tables)
        if callers <= served.ids & at_rest and labels.rows >= played.labels_due:
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
    stack = load(state)
    os.environ.update(stack.homes)
    try:
        require_down(stack)
        figures = asyncio.run(play(CONTROLS[given.control], state, to, keep=bool(given.keep)))
    except StackRunning as error:
        sys.exit(f"ciclo demo: {error.message}")
    except (CommandFailed, TimeoutError) as error:
        sys.exit(f"ciclo demo: {error}; the logs are in {state / 'log'}")
    sys.exit(0 if figures["passed"] else 1)


if __name__ == "__main__":
    main()
