"""How good a classifier is, and how far the number can be trusted.

NumPy and SciPy alone; nothing here needs torch, so anyone's predictions will do.

>>> from skmedimg.metrics import roc_auc_ci
>>> y_true = [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
>>> y_score = [0.1, 0.1, 0.2, 0.3, 0.5, 0.7, 0.4, 0.5, 0.6, 0.8, 0.9, 0.9]
>>> auc, low, high = roc_auc_ci(y_true, y_score)
>>> print(f"{auc:.2f} ({low:.2f} to {high:.2f})")
0.88 (0.38 to 0.99)
"""

from skmedimg.metrics._auc import roc_auc_ci
from skmedimg.metrics._bootstrap import BootstrapEstimate, bootstrap_ci
from skmedimg.metrics._calibration import (
    BrierParts,
    CalibrationError,
    CalibrationFit,
    brier_decomposition,
    calibration_error,
    calibration_fit,
    reliability_curve,
)
from skmedimg.metrics._checks import Comparison, Estimate
from skmedimg.metrics._decision import net_benefit
from skmedimg.metrics._delong_test import delong_test
from skmedimg.metrics._macro_auc import macro_auc_ci
from skmedimg.metrics._mcnemar import mcnemar_test
from skmedimg.metrics._operating_points import (
    OperatingPoint,
    partial_roc_auc,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
    threshold_at_sensitivity,
)
from skmedimg.metrics._plot.decision_curve import DecisionCurveDisplay
from skmedimg.metrics._plot.history import HistoryDisplay
from skmedimg.metrics._plot.reliability import ReliabilityDisplay
from skmedimg.metrics._plot.risk_coverage import RiskCoverageDisplay
from skmedimg.metrics._plot.roc_band import RocBandDisplay
from skmedimg.metrics._plot.subgroups import SubgroupDisplay
from skmedimg.metrics._proportions import (
    PredictiveValues,
    accuracy_ci,
    predictive_values_ci,
    proportion_ci,
    sensitivity_ci,
    specificity_ci,
)
from skmedimg.metrics._sample_size import SampleSize, auc_sample_size
from skmedimg.metrics._selective import AURC, aurc, risk_coverage_curve
from skmedimg.metrics._units import Units, UnitScorer, aggregate_by_unit

__all__ = [
    "AURC",
    "BootstrapEstimate",
    "BrierParts",
    "CalibrationError",
    "CalibrationFit",
    "Comparison",
    "DecisionCurveDisplay",
    "Estimate",
    "HistoryDisplay",
    "OperatingPoint",
    "PredictiveValues",
    "ReliabilityDisplay",
    "RiskCoverageDisplay",
    "RocBandDisplay",
    "SampleSize",
    "SubgroupDisplay",
    "UnitScorer",
    "Units",
    "accuracy_ci",
    "aggregate_by_unit",
    "auc_sample_size",
    "aurc",
    "bootstrap_ci",
    "brier_decomposition",
    "calibration_error",
    "calibration_fit",
    "delong_test",
    "macro_auc_ci",
    "mcnemar_test",
    "net_benefit",
    "partial_roc_auc",
    "predictive_values_ci",
    "proportion_ci",
    "reliability_curve",
    "risk_coverage_curve",
    "roc_auc_ci",
    "sensitivity_at_specificity",
    "sensitivity_ci",
    "specificity_at_sensitivity",
    "specificity_ci",
    "threshold_at_sensitivity",
]
