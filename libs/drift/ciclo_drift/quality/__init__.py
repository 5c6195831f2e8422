"""Quality without labels: estimates with an interval, that say when not to believe them."""

from ciclo_drift.quality.binary import Metric
from ciclo_drift.quality.calibrated import CalibratedQuality
from ciclo_drift.quality.estimate import Estimate, Limits
from ciclo_drift.quality.regression import LossRegression
from ciclo_drift.quality.trust import Reconciled
from ciclo_drift.quality.weighting import WeightedQuality

__all__ = [
    "CalibratedQuality",
    "Estimate",
    "Limits",
    "LossRegression",
    "Metric",
    "Reconciled",
    "WeightedQuality",
]
