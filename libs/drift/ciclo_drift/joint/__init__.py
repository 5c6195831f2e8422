"""Joint change of many dimensions: vectors in, one alarm out, within one false-alarm budget."""

from ciclo_drift.joint.bank import JointBank, Moved

__all__ = ["JointBank", "Moved"]
