"""How sure a prediction is, and what may be promised of it.

Several predictions of an image (`predict_augmented`, `predict_dropout`,
`DeepEnsembleClassifier`) tell how far they agree; the other estimators here turn
probabilities into decisions with a stated error, on held-out patients.

>>> from sklearn.linear_model import LogisticRegression
>>> from skmedimg.uncertainty import ConformalClassifier, SelectiveClassifier
>>> clf = SelectiveClassifier(LogisticRegression(), coverage=0.9)
>>> sets = ConformalClassifier(LogisticRegression(), alpha=0.05)
"""

from skmedimg.uncertainty._conformal import ConformalClassifier
from skmedimg.uncertainty._ensemble import DeepEnsembleClassifier
from skmedimg.uncertainty._outliers import EmbeddingOutlierDetector
from skmedimg.uncertainty._pixel_statistics import PixelStatistics
from skmedimg.uncertainty._samples import (
    PredictionSamples,
    predict_augmented,
    predict_dropout,
)
from skmedimg.uncertainty._selective import SelectiveClassifier
from skmedimg.uncertainty._threshold import SensitivityThresholdClassifier

__all__ = [
    "ConformalClassifier",
    "DeepEnsembleClassifier",
    "EmbeddingOutlierDetector",
    "PixelStatistics",
    "PredictionSamples",
    "SelectiveClassifier",
    "SensitivityThresholdClassifier",
    "predict_augmented",
    "predict_dropout",
]
