"""The monitor: says, within a stated false-alarm budget, when a model has stopped being fit."""
