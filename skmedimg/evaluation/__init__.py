"""A report on a classifier as a reviewer of a medical-imaging paper asks for it.

`evaluate` takes a fitted estimator, or anyone's probabilities, and needs no torch for
the latter.
"""

from skmedimg.evaluation._cross import CrossEvaluation, cross_evaluate
from skmedimg.evaluation._evaluate import evaluate
from skmedimg.evaluation._prior import correct_prior
from skmedimg.evaluation._report import EvaluationReport

__all__ = [
    "CrossEvaluation",
    "EvaluationReport",
    "correct_prior",
    "cross_evaluate",
    "evaluate",
]
