"""What watching a recorded stream would have told: tables in, alarms and figures out."""

from ciclo_drift.backtest.result import Backtest
from ciclo_drift.backtest.run import backtest

__all__ = ["Backtest", "backtest"]
