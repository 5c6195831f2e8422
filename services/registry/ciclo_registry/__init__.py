"""Holds every model version with its evidence, and decides what serves."""
