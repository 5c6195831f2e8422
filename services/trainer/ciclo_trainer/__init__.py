"""The trainer: turns a reason into a better model, reproducibly."""
