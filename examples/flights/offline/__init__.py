"""The loop over recorded flights without any service: what `study.py` is made of."""
