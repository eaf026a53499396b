"""One call from labels and probabilities to a report."""

import warnings
from collections.abc import Iterator, Mapping
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils._param_validation import (
    Interval,
    Options,
    Real,
    StrOptions,
    validate_params,
)

from skmedimg.evaluation._at_threshold import at_threshold, subgroups as _subgroups
from skmedimg.evaluation._baseline import regression_baseline
from skmedimg.evaluation._cases import CaseReader, Cases, probabilities
from skmedimg.evaluation._checklists import CLAIM, TRIPOD_AI, answers
from skmedimg.evaluation._cohort import (
    cohort,
    hardest_cases,
    model_text,
    provenance,
    training_history,
    versions,
)
from skmedimg.evaluation._discrimination import curves, discrimination
from skmedimg.evaluation._facts import Facts
from skmedimg.evaluation._methods import methods_text
from skmedimg.evaluation._refusals import (
    Known,
    distortions,
    known_from_training,
    overlap_text,
    say_distortions,
    say_known,
    say_units,
)
from skmedimg.evaluation._report import EvaluationReport, Section, Table
from skmedimg.evaluation._risk import calibration, decision_curve
from skmedimg.evaluation._settings import Settings
from skmedimg.evaluation._several import (
    accuracy_by_subgroup,
    accuracy_row,
    confusion_of_classes,
    discrimination_of_each,
    macro_row,
)
from skmedimg.evaluation._threshold import Threshold, choose_threshold
