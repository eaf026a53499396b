"""Splitters that keep patients apart, and what looks after a split and a search.

Where the images know their patients (`skmedimg.io.ImageSequence`), nothing else needs
to be said; elsewhere each takes them as `groups`.

>>> from skmedimg.model_selection import PatientKFold, SiteKFold, TemporalSplit
>>> TemporalSplit([2019, 2020, 2020, 2021], test_from=2021)
TemporalSplit(times=<4 images>, test_from=2021, n_splits=None)
"""

from skmedimg.model_selection._grouped import (
    MultilabelStratifiedGroupKFold,
    group_train_test_split,
)
from skmedimg.model_selection._leakage import LeakageReport, audit_leakage
from skmedimg.model_selection._patients import PatientKFold
from skmedimg.model_selection._range_test import (
    LearningRateRangeDisplay,
    lr_range_test,
)
from skmedimg.model_selection._sites import SiteKFold
from skmedimg.model_selection._times import TemporalSplit

__all__ = [
    "LeakageReport",
    "LearningRateRangeDisplay",
    "MultilabelStratifiedGroupKFold",
    "PatientKFold",
    "SiteKFold",
    "TemporalSplit",
    "audit_leakage",
    "group_train_test_split",
    "lr_range_test",
]
