"""Labels of any kind to what a loss takes: class indices, or label indicators."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import _check_y

ClassWeight = Mapping[Any, float] | Sequence[Mapping[Any, float]] | str | None


@dataclass(frozen=True)
class LabelEncoding:
    """Classes (or number of labels) of a fit, and how to encode more of the same.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        Sorted class labels; label indices for indicators.
    multilabel : bool
        Whether y is an indicator of several labels.
    dtype : numpy.dtype
        Of predicted indicators: that of y, or int where y holds objects.
    """

    classes: np.ndarray
    multilabel: bool
    dtype: np.dtype

    @classmethod
    def fit(
        cls, y: Any, estimator: Any, classes: Any = None
    ) -> tuple["LabelEncoding", np.ndarray]:
        """Learn the classes of y and encode it.

        Parameters
        ----------
        y : array-like of shape (n,), (n, 1) or (n, n_labels)
            Labels.
        estimator : estimator
            Named in messages.
        classes : array-like of shape (n_classes,), default=None
            All classes where y may lack some.

        Returns
        -------
        encoding : LabelEncoding
            The classes.
        target : ndarray of shape (n,) or (n, n_labels)
            Class indices, or an indicator in double precision with NaN for missing.
        """
        y = _as_array(y)
        if _is_indicator(y):
            target = _check_indicator(y)
            dtype = y.dtype if y.dtype.kind in "biuf" else np.dtype(int)
            encoding = cls(np.arange(y.shape[1]), True, dtype)
            empty = np.flatnonzero(np.isnan(target).all(0)).tolist()
            if classes is None and empty:
                raise ValueError(f"y has no label in columns {empty}: drop them.")
            if classes is not None and len(classes) != y.shape[1]:
                raise ValueError(
                    f"classes has {len(classes)} entries, but y is an indicator of "
                    f"{y.shape[1]} labels."
                )
            return encoding, target
        y = _check_labels(y, estimator)
        found = np.unique(y) if classes is None else unique_labels(classes)
        encoding = cls(found, False, y.dtype)
        return encoding, encoding.encode(y, estimator)

    def encode(self, y: Any, estimator: Any) -> np.ndarray:
        """Encode y, which must be of the same kind and have no other classes.

        Raises
        ------
        ValueError
            If it is not.
        """
        y = _as_array(y)
        if _is_indicator(y) != self.multilabel or (
            self.multilabel and y.shape[1] != len(self.classes)
        ):
            kind = "classes" if not self.multilabel else "label indicators"
            raise ValueError(
                f"y has shape {y.shape}, but this estimator was fitted on {kind} of "
                f"{len(self.classes)}: pass targets of the same kind."
            )
        if self.multilabel:
            return _check_indicator(y)
        y = _check_labels(y, estimator)
        known = np.isin(y, self.classes)
        if not known.all():
            raise ValueError(
                f"y has labels {np.unique(y[~known])[:5].tolist()} that are not among "
                f"the classes {self.classes.tolist()}: name all classes in the first "
                "call, or fit anew."
            )
        return np.searchsorted(self.classes, y)

    @property
    def n_outputs(self) -> int:
        """Logits a network needs: one for two classes, else one a class or label."""
        n = len(self.classes)
        return 1 if n == 2 and not self.multilabel else n

    def class_weights(
        self,
        target: np.ndarray,
        weight: np.ndarray,
        class_weight: ClassWeight,
        train: np.ndarray,
    ) -> np.ndarray:
        """Factor of every target.

        Parameters
        ----------
        target : ndarray of shape (m,) or (m, n_labels)
            Encoded targets.
        weight : ndarray of shape (m,)
            Sample weights; "balanced" counts by them.
        class_weight : {"balanced"}, mapping, sequence of mappings or None
            As the estimator's parameter.
        train : ndarray of int
            Which targets "balanced" counts.

        Returns
        -------
        ndarray of the shape of `target`
            0 where a label is missing.

        Raises
        ------
        ValueError
            If a class is unknown or a weight is negative.
        """
        if not self.multilabel:
            counted = target[train], weight[train]
            return self._table(*counted, class_weight, self.classes)[target]
        each: Sequence[ClassWeight]
        if class_weight is None or isinstance(class_weight, str):
            each = [class_weight] * target.shape[1]
        elif isinstance(class_weight, Mapping) or len(class_weight) != target.shape[1]:
            raise ValueError(
                f'class_weight for {target.shape[1]} labels is "balanced" or a list of '
                f"as many dicts {{0: weight, 1: weight}}; got {class_weight!r}."
            )
        else:
            each = class_weight
        factors = np.zeros(target.shape)
        for label, wanted in enumerate(each):
            known = np.flatnonzero(~np.isnan(target[:, label]))
            at = np.intersect1d(known, train)
            present = target[at, label].astype(int)
            table = self._table(present, weight[at], wanted, np.array([0, 1]))
            factors[known, label] = table[target[known, label].astype(int)]
        return factors

    def _table(
        self,
        target: np.ndarray,
        weight: np.ndarray,
        class_weight: ClassWeight,
        classes: np.ndarray,
    ) -> np.ndarray:
        if class_weight is None:
            return np.ones(len(classes))
        if isinstance(class_weight, str):
            counts = np.bincount(target, weight, minlength=len(classes))
            present = np.maximum((counts > 0).sum(), 1)
            shares = counts.sum() / present
            return np.divide(
                shares, counts, out=np.ones_like(counts, float), where=counts > 0
            )
        if not isinstance(class_weight, Mapping):
            raise ValueError(
                f'class_weight={class_weight!r}: one target takes "balanced" or a dict '
                "from class to weight; a list is for label indicators."
            )
        names = classes.tolist()
        unknown = [name for name in class_weight if name not in names]
        if unknown:
            raise ValueError(
                f"class_weight names {unknown}, but the classes are {names}."
            )
        table = np.array([class_weight.get(name, 1.0) for name in names])
        numeric = table.dtype.kind in "biuf" and np.isfinite(table).all()
        if not (numeric and (table >= 0).all() and table.any()):
            raise ValueError(
                f"class_weight={class_weight!r}: weights must be finite numbers, not "
                "negative, and not all zero."
            )
        return table.astype(np.float64)

    def prior_logits(self, target: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Logits of the weighted frequencies: where an untrained network starts.

        Parameters
        ----------
        target, weight : ndarray of shape (m,) or (m, n_labels)
            Targets, and their weights in the loss.

        Returns
        -------
        ndarray of shape (n_outputs,)
            float32, between about -5 and 5.
        """
        if self.multilabel:
            known = np.nan_to_num(target)
            share = (weight * known).sum(0) / np.maximum(weight.sum(0), 1e-12)
        else:
            counts = np.bincount(target, weight, minlength=len(self.classes))
            share = counts / counts.sum()
        share = np.clip(share, 0.007, 0.993)
        if self.multilabel:
            return np.log(share / (1 - share)).astype(np.float32)
        if self.n_outputs == 1:
            return np.log(share[1:] / share[:1]).astype(np.float32)
        return np.log(share).astype(np.float32)


def _as_array(y: Any) -> Any:
    if y is None:
        raise ValueError(
            "The estimator requires y to be passed, but the target y is None: give one "
            "label an image."
        )
    if sp.issparse(y):
        return y.toarray()
    if np.ma.is_masked(y):
        raise ValueError(
            f"y is a masked array with {int(np.ma.getmaskarray(y).sum())} masked "
            "labels: drop these images, or write NaN into label indicators."
        )
    if hasattr(y, "iloc") and y.ndim == 2 and y.isna().to_numpy().any():
        # pandas' own NA is no number: Int64 and boolean columns hold it.
        y = y.astype(object).where(y.notna(), np.nan)
    y = y if hasattr(y, "iloc") and getattr(y, "ndim", 1) == 1 else np.asarray(y)
    if not 1 <= y.ndim <= 2:
        raise ValueError(
            "y should be a 1d array, or an indicator of labels of shape (n, n_labels), "
            f"but has shape {y.shape}."
        )
    return y


def _is_indicator(y: Any) -> bool:
    return np.ndim(y) == 2 and np.shape(y)[1] > 1


def _check_indicator(y: np.ndarray) -> np.ndarray:
    """Indicator in double precision; NaN is a missing label."""
    try:
        indicator = y.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Unknown label type: y of shape {y.shape} is no indicator of labels "
            f"({error}); columns must hold 0, 1 or NaN."
        ) from error
    if (indicator == -1).any():
        raise ValueError(
            f"y holds {int((indicator == -1).sum())} entries of -1. CheXpert writes "
            "-1 for an uncertain label and leaves unmentioned ones empty. Decide what "
            "they mean: NaN (left out of the loss), 1, or 0."
        )
    bad = ~(np.isnan(indicator) | np.isin(indicator, (0, 1)))
    if bad.any():
        raise ValueError(
            f"Unknown label type: y of shape {y.shape} holds {indicator[bad][0]:g}; an "
            "indicator of labels holds 0, 1 or NaN for missing. Multi-class targets "
            "have one column."
        )
    return indicator


def _check_labels(y: Any, estimator: Any) -> np.ndarray:
    if hasattr(y, "iloc") or y.dtype.kind == "O":
        import pandas as pd

        missing = np.asarray(pd.isna(y)).ravel()
        if missing.any():
            raise ValueError(
                f"Input y contains NaN: {int(missing.sum())} of {len(missing)} labels "
                f"are missing, the first at {int(np.argmax(missing))}. Drop these "
                "images."
            )
    labels = _check_y(np.asarray(y), multi_output=False, estimator=estimator)
    check_classification_targets(labels)
    return labels
