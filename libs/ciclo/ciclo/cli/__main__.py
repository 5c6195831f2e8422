"""Runs the command line as `python -m ciclo.cli`."""

from ciclo.cli import main

main()
