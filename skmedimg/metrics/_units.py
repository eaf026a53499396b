"""From images to what is decided on: the lesion, the breast, the patient."""

import warnings
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import get_scorer
from sklearn.utils._param_validation import StrOptions, validate_params
from sklearn.utils.metadata_routing import UNUSED

from skmedimg.metrics._auc import roc_auc_ci
from skmedimg.metrics._checks import (
    check_column,
    check_groups,
    check_probability,
    encode,
    positive_code,
)


class Units(NamedTuple):
    """Labels and scores of units, in the order in which units first appear.

    Attributes
    ----------
    y : ndarray of shape (n_units,)
        Labels.
    proba : ndarray of shape (n_units,) or (n_units, n_classes)
        Aggregated probabilities or scores.
    unit : ndarray of shape (n_units,)
        Names of the units.
    n_images : ndarray of int, shape (n_units,)
        Images of each.
    groups : ndarray of shape (n_units,) or None
        Cluster of each, if clusters were given.
    """

    y: np.ndarray
    proba: np.ndarray
    unit: np.ndarray
    n_images: np.ndarray
    groups: np.ndarray | None


@validate_params(
    {
        "y": ["array-like"],
        "proba": ["array-like"],
        "unit": ["array-like"],
        "method": [StrOptions({"mean", "max", "noisy-or"}), callable],
        "label": [StrOptions({"same", "any", "consensus"})],
        "pos_label": "no_validation",
        "groups": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def aggregate_by_unit(
    y: Any,
    proba: Any,
    unit: Any,
    *,
    method: str | Callable[[np.ndarray], Any] = "mean",
    label: Literal["same", "any", "consensus"] = "same",
    pos_label: Any = None,
    groups: Any = None,
) -> Units:
    """Aggregate the images of a unit to one label and one score.

    Parameters
    ----------
    y : array-like of shape (n_images,)
        Label of each image.
    proba : array-like of shape (n_images,) or (n_images, n_classes)
        Probabilities of the positive class, or of each class; with "mean", "max" and a
        callable any scores of a positive class will do.
    unit : array-like of shape (n_images,)
        Unit that each image shows: lesion, breast, patient.
    method : {"mean", "max", "noisy-or"} or callable, default="mean"
        "max" takes the image most suspicious of the positive class, "noisy-or" the
        probability that at least one image is positive if images were independent; of
        two columns the second is the positive class's, and more are an error. A
        callable gets the rows of one unit, of shape (n,) or (n, n_classes), and returns
        its score or scores. "max" and "noisy-or" grow with the number of images.
    label : {"same", "any", "consensus"}, default="same"
        What the label of a unit is whose images differ in theirs: an error; the
        positive one, so that one positive image makes a unit positive (of grades, which
        are more than two classes, the greatest); or the most frequent, an error where
        two are.
    pos_label : int, float, bool or str, default=None
        Label of the positive class, for ``label="any"``. None means 1, and is allowed
        where the labels are {0, 1} or {-1, 1}, or grades: more than two labels, or a
        `proba` of more than two columns.
    groups : array-like of shape (n_images,), default=None
        Cluster of each image, for example its patient where units are lesions.

    Returns
    -------
    Units
        Named tuple (y, proba, unit, n_images, groups).

    Raises
    ------
    ValueError
        If lengths differ, something is missing, labels of a unit differ and `label`
        does not resolve them, `pos_label` is needed and not given or is no label, or a
        unit lies in several groups.

    Warns
    -----
    UserWarning
        If the number of images predicts the label: the 99 % interval of the area under
        its ROC curve leaves out 0.5 (any class against the rest). A model can then
        score well by noticing how often somebody was imaged.

    Examples
    --------
    >>> from skmedimg.metrics import aggregate_by_unit
    >>> lesion = ["a", "a", "b", "c", "c"]
    >>> units = aggregate_by_unit([1, 1, 0, 0, 0], [0.9, 0.5, 0.2, 0.3, 0.4], lesion)
    >>> units.unit
    array(['a', 'b', 'c'], dtype='<U1')
    >>> units.proba
    array([0.7 , 0.2 , 0.35])
    >>> units.n_images
    array([2, 1, 2])
    """
    y, names = check_column(y, "y"), check_column(unit, "unit")
    proba = _check_proba(proba, method)
    for values, name in (names, "unit"), (proba, "proba"):
        if len(values) != len(y):
            raise ValueError(
                f"y has {len(y)} labels but {name} has {len(values)} rows: pass one "
                "row an image."
            )
    code = check_groups(unit, len(y), "unit")
    _, first, n_images = np.unique(code, return_index=True, return_counts=True)
    graded = proba.ndim == 2 and proba.shape[1] > 2
    of_unit = _unit_labels(y, code, names[first], label, pos_label, graded)
    of_groups, cluster = None, None
    if groups is not None:
        cluster = check_groups(groups, len(y))
        split = names[cluster != cluster[first][code]].tolist()
        if split:
            raise ValueError(
                f"unit {split[0]!r} lies in several groups: units are parts of groups "
                "(lesions of patients). Pass names of units that are unique across "
                "groups."
            )
        of_groups, cluster = check_column(groups, "groups")[first], cluster[first]
    told = what_counts_tell(of_unit, n_images, cluster)
    if told is not None:
        warnings.warn(told, UserWarning, stacklevel=3)
    scores = _aggregate(proba, code, n_images, method)
    return Units(of_unit, scores, names[first], n_images, of_groups)


def _check_proba(proba: Any, method: Any) -> np.ndarray:
    proba = np.asarray(proba, dtype=np.float64)
    if proba.ndim not in (1, 2) or np.isnan(proba).any():
        raise ValueError(
            f"proba has shape {proba.shape} and {np.isnan(proba).sum()} NaN: pass a "
            "score an image, or a row of one a class."
        )
    if method in ("max", "noisy-or") and proba.ndim == 2 and proba.shape[1] != 2:
        raise ValueError(
            f"proba has {proba.shape[1]} columns, and method={method!r} needs one "
            "positive class: pass its column alone, or method='mean'."
        )
    if method == "noisy-or" or (method == "max" and proba.ndim == 2):
        check_probability(proba.ravel(), "proba")
    return proba


def _unit_labels(
    y: np.ndarray,
    code: np.ndarray,
    names: np.ndarray,
    label: str,
    pos_label: Any,
    graded: bool,
) -> np.ndarray:
    label_code, labels = encode(y, "y")
    table = np.zeros((len(names), len(labels)), dtype=int)
    np.add.at(table, (code, label_code), 1)
    value = np.array(labels, dtype=y.dtype)
    mixed = names[np.count_nonzero(table, axis=1) > 1].tolist()
    if label == "same" and mixed:
        raise ValueError(
            f"images of {len(mixed)} of {len(names)} units have several labels, the "
            f"first is unit {mixed[0]!r}: pass label='any' if one positive image makes "
            "a unit positive, label='consensus' for the most frequent label, or a "
            "finer unit."
        )
    if label == "any":
        if (graded or len(labels) > 2) and pos_label is None:
            return _greatest(y, code, len(names))
        positive = positive_code(labels, pos_label, "y", at_least=1)
        has_it = table[:, positive] > 0 if positive >= 0 else False
        return value[np.where(has_it, positive, table.argmax(axis=1))]
    most = table.max(axis=1, keepdims=True)
    tied = names[np.count_nonzero(table == most, axis=1) > 1].tolist()
    if tied:
        raise ValueError(
            f"{len(tied)} units have no most frequent label, the first is unit "
            f"{tied[0]!r}: decide these in y, or pass label='any'."
        )
    return value[table.argmax(axis=1)]


def _greatest(y: np.ndarray, code: np.ndarray, n_units: int) -> np.ndarray:
    if y.dtype.kind not in "biuf":
        raise ValueError(
            "label='any' takes the greatest of more than two labels, and those of y "
            f"are no numbers ({y.tolist()[0]!r}, …): pass y == positive_label."
        )
    greatest = np.full(n_units, y.min())
    np.maximum.at(greatest, code, y)
    return greatest


def what_counts_tell(
    y: np.ndarray, n_images: np.ndarray, cluster: np.ndarray | None
) -> str | None:
    """Return a warning where the number of images of a unit predicts its label."""
    code, labels = encode(y, "y")
    if len(labels) < 2 or np.ptp(n_images) == 0:
        return None
    aucs = [
        roc_auc_ci(code == one, n_images, level=0.99, groups=cluster)
        for one in range(len(labels))
    ]
    told = [one for one, auc in enumerate(aucs) if auc.low > 0.5 or auc.high < 0.5]
    if not told:
        return None
    # Of two classes either says it; more images are easier to picture than fewer.
    most = max(told, key=lambda one: aucs[one].value)
    auc, own = aucs[most], code == most
    return (
        f"the number of images predicts the label: units of {labels[most]!r} have "
        f"{n_images[own].mean():.3g} on average, others {n_images[~own].mean():.3g}, "
        f"an AUC of {auc.value:.2f} ({auc.low:.2f} to {auc.high:.2f}). A model, and "
        "method='max' or 'noisy-or' by itself, can profit from that; compare with a "
        "fixed number of images a unit."
    )


def _aggregate(
    proba: np.ndarray, code: np.ndarray, n_images: np.ndarray, method: Any
) -> np.ndarray:
    order = np.argsort(code, kind="stable")
    starts = np.cumsum(n_images) - n_images
    if callable(method):
        return np.array([method(rows) for rows in np.split(proba[order], starts[1:])])
    if method == "mean":
        return (np.add.reduceat(proba[order], starts).T / n_images).T
    positive = (proba if proba.ndim == 1 else proba[:, 1])[order]
    if method == "max":
        score = np.maximum.reduceat(positive, starts)
    else:
        score = 1 - np.multiply.reduceat(1 - positive, starts)
    return score if proba.ndim == 1 else np.column_stack([1 - score, score])


class UnitScorer(BaseEstimator):
    """Scorer that scores units, such as lesions or patients, in place of images.

    Pass it as `scoring` to cross-validation and to searches. Units come from the
    metadata `unit`, which is requested by default where metadata routing is on, or
    else from `X.groups`, which an `ImageSequence` carries.

    Parameters
    ----------
    scoring : str or callable, default="roc_auc"
        Scorer of scikit-learn applied to units: a name or what `make_scorer` returns.
    method : {"mean", "max", "noisy-or"} or callable, default="mean"
        How the probabilities of a unit's images are aggregated, see
        `aggregate_by_unit`.
    label : {"same", "any", "consensus"}, default="same"
        What the label of a unit is whose images differ in theirs. Of two classes "any"
        means the positive one.
    pos_label : int, float, bool or str, default=None
        Label of the positive class. None means 1, and is allowed where the classes are
        {0, 1} or {-1, 1}, or more than two.

    See Also
    --------
    aggregate_by_unit : Labels and scores of units.

    Notes
    -----
    Of two classes the scorer sees labels 1 for the positive class and 0 for the other,
    so that "f1" or "average_precision" are those of `pos_label`.

    Examples
    --------
    >>> import numpy as np
    >>> import sklearn
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
    >>> from skmedimg.metrics import UnitScorer
    >>> rng = np.random.default_rng(0)
    >>> patient = np.arange(300) // 3
    >>> y = np.tile(["benign", "malignant"], 50)[patient]
    >>> X = rng.normal(size=(300, 4)) + (y == "malignant")[:, np.newaxis]
    >>> with sklearn.config_context(enable_metadata_routing=True):
    ...     cross_val_score(
    ...         LogisticRegression(),
    ...         X,
    ...         y,
    ...         scoring=UnitScorer("accuracy", pos_label="malignant"),
    ...         cv=StratifiedGroupKFold(4),
    ...         params={"groups": patient, "unit": patient},
    ...     )
    array([0.96, 0.84, 0.92, 1.  ])
    """

    # The model is no metadata; units are wanted wherever somebody gives them.
    __metadata_request__score: ClassVar = {"estimator": UNUSED, "unit": True}

    def __init__(
        self,
        scoring: Any = "roc_auc",
        *,
        method: str | Callable[[np.ndarray], Any] = "mean",
        label: Literal["same", "any", "consensus"] = "same",
        pos_label: Any = None,
    ) -> None:
        self.scoring = scoring
        self.method = method
        self.label = label
        self.pos_label = pos_label

    def __call__(self, estimator: Any, X: Any, y: Any, unit: Any = None) -> float:
        """Score the units of X; the same as `score`."""
        return self.score(estimator, X, y, unit)

    def score(self, estimator: Any, X: Any, y: Any, unit: Any = None) -> float:
        """Score the units of X.

        Parameters
        ----------
        estimator : object
            Fitted classifier with `predict_proba`.
        X : array-like of shape (n_images, ...)
            Images.
        y : array-like of shape (n_images,)
            Label of each image.
        unit : array-like of shape (n_images,), default=None
            Unit that each image shows. None takes `X.groups`.

        Returns
        -------
        float
            Score of the units.

        Raises
        ------
        ValueError
            If neither `unit` nor `X.groups` is there, the positive class is needed and
            not given, or units cannot be formed.
        """
        if unit is None:
            unit = getattr(X, "groups", None)
        if unit is None:
            raise ValueError(
                "UnitScorer was given no units: pass X as an ImageSequence with "
                "groups, or turn metadata routing on and pass params={'unit': ...} to "
                "the cross-validation."
            )
        classes = np.asarray(estimator.classes_)
        proba = np.asarray(estimator.predict_proba(X))
        y = check_column(y, "y")
        if len(classes) == 2:
            labels = classes.tolist()
            positive = positive_code(labels, self.pos_label, "the estimator")
            strange = [label for label in y.tolist() if label not in labels]
            if strange:
                raise ValueError(
                    f"y holds {strange[0]!r}, and the estimator was fitted on "
                    f"{labels} alone: leave these images out, or choose a cv whose "
                    "training sets hold every class."
                )
            proba = proba[:, [1 - positive, positive]]
            y = (y == classes[positive]).astype(int)
            classes = np.array([0, 1])
        units = aggregate_by_unit(y, proba, unit, method=self.method, label=self.label)
        return get_scorer(self.scoring)(_Predicted(classes), units.proba, units.y)


class _Predicted(ClassifierMixin, BaseEstimator):
    """Classifier whose probabilities are its input: scorers want an estimator."""

    def __init__(self, classes: np.ndarray) -> None:
        self.classes_ = classes

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return X

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[X.argmax(axis=1)]
