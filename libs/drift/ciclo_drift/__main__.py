"""`python -m ciclo_drift`: the command line of the library."""

import sys

from ciclo_drift.backtest.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
