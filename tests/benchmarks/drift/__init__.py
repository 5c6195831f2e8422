"""The drift library against the limit of what is possible and against other libraries.

Run it: `make bench NAME=drift`, or `python -m tests.benchmarks.drift [--full] [--only PART]`.
"""
