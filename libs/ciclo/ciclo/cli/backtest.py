"""`ciclo backtest`: what a policy would have done over the losses that were recorded."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ciclo.cli.connection import DEFAULT_STATE, AsJson, StateDir, connect, print_json
from ciclo.loop import read_loop
from ciclo.monitoring.v1 import monitoring_service_pb2 as pb
from ciclo.monitoring.v1.monitoring_service_pb2_grpc import MonitoringServiceStub


def backtest(
    folder: Annotated[Path, typer.Argument(help="Folder with the loop.yaml to try.")],
    state: StateDir = DEFAULT_STATE,
    as_json: AsJson = False,
) -> None:
    """Run a loop's policy over the champion's recorded losses. Nothing is changed."""
    loop = read_loop(folder)
    alarms, block = loop.monitor.false_alarms, loop.quality.correlated_within
    request = pb.BacktestPerformanceRequest(
        model=loop.model,
        tolerance=loop.monitor.degraded_if.log_loss.above_reference_by,
        budget_blocks=2 * (alarms.per / block) / alarms.at_most,  # half of it is for drift
    )
    with connect(state).stub("monitor", MonitoringServiceStub) as monitor:
        answer = monitor.BacktestPerformance(request, timeout=30)
    if as_json:
        print_json(answer)
        return
    alarmed = [b for b in answer.blocks if b.alarmed]
    table = Table(title=f"{loop.model}: {alarms}", title_justify="left")
    for column in ("from", "rows", "log loss", "evidence", "alarm"):
        table.add_column(column, justify="right")
    for b in answer.blocks:
        start = f"{b.start_time.ToDatetime():%Y-%m-%d}"
        word = "alarm" if b.alarmed else ""
        table.add_row(start, str(b.rows), f"{b.loss:.4f}", f"{b.evidence:.1f}", word)
    Console().print(table)
    watched = timedelta(seconds=block.total_seconds() * len(answer.blocks)).days
    first = f"on {alarmed[0].start_time.ToDatetime():%Y-%m-%d}" if alarmed else "never"
    typer.echo(f"{watched} days watched; the alarm would have come {first}")
