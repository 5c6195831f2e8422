"""When a model has stopped being fit, and which of two is better: pure, synchronous, no clock."""
