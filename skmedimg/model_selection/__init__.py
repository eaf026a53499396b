"""Searches, audits, and splitters by patient, site and time that keep patients apart.

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
from skmedimg.model_selection._search import OptunaSearchCV
from skmedimg.model_selection._search_display import SearchDisplay
from skmedimg.model_selection._sites import SiteKFold
from skmedimg.model_selection._space import default_search_space
from skmedimg.model_selection._times import TemporalSplit

__all__ = [
    "LeakageReport",
    "LearningRateRangeDisplay",
    "MultilabelStratifiedGroupKFold",
    "OptunaSearchCV",
    "PatientKFold",
    "SearchDisplay",
    "SiteKFold",
    "TemporalSplit",
    "audit_leakage",
    "default_search_space",
    "group_train_test_split",
    "lr_range_test",
]
