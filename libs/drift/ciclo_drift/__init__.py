"""Sequential drift detection that keeps its false-alarm budget: NumPy in, numbers out."""

from ciclo_drift.alarms import Alarm, Culprit, Kind
from ciclo_drift.arrivals import ArrivalBank
from ciclo_drift.block_mean import BlockMeanTest, Rise
from ciclo_drift.blocks import BlockSums, sum_by_block
from ciclo_drift.budget import Budget, Spending
from ciclo_drift.calibration import Certificate
from ciclo_drift.errors import DriftInputError
from ciclo_drift.joint import JointBank, Moved
from ciclo_drift.kinds import LabelTable
from ciclo_drift.late_labels import LateLosses, MatureBlock
from ciclo_drift.losses import expected_log_loss, log_loss
from ciclo_drift.pairs import Comparison, PairedComparison, Verdict, compare_blocks
from ciclo_drift.rank_bank import RankBank
from ciclo_drift.reference import Reference
from ciclo_drift.registry import DETECTORS
from ciclo_drift.seasons import Season, best_season
from ciclo_drift.snapshots import Snapshot, pack, unpack
from ciclo_drift.stream_set import StreamSet

__all__ = [
    "DETECTORS",
    "Alarm",
    "ArrivalBank",
    "BlockMeanTest",
    "BlockSums",
    "Budget",
    "Certificate",
    "Comparison",
    "Culprit",
    "DriftInputError",
    "JointBank",
    "Kind",
    "LabelTable",
    "LateLosses",
    "MatureBlock",
    "Moved",
    "PairedComparison",
    "RankBank",
    "Reference",
    "Rise",
    "Season",
    "Snapshot",
    "Spending",
    "StreamSet",
    "Verdict",
    "best_season",
    "compare_blocks",
    "expected_log_loss",
    "log_loss",
    "pack",
    "sum_by_block",
    "unpack",
]
