"""What is scored: labels and probabilities, a row a case, with the patient of each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skmedimg._per_image import one_per_image
from skmedimg.images import groups_of
from skmedimg.metrics import aggregate_by_unit
from skmedimg.metrics._checks import encode, positive_code

if TYPE_CHECKING:
    import pandas as pd

# A numeric subgroup of more levels is cut into thirds.
_MOST_LEVELS = 10


@dataclass(frozen=True)
class Cases:
    """Scored cases: images, or units of several images each.

    Attributes
    ----------
    kind : {"binary", "multiclass", "multilabel"}
        Of the labels.
    classes : tuple
        Labels of the classes in the order of the columns of `score`; for two classes
        (negative, positive); for indicators the names of the labels.
    class_names : tuple of str
        The same as documents show them, for example "malignant (0)".
    y : ndarray of shape (n,) or (n, n_labels)
        Whether positive (bool); the class; or indicators with NaN for missing.
    score : ndarray of shape (n,), (n, n_classes) or (n, n_labels)
        Probabilities; for two classes those of the positive one.
    name : ndarray of shape (n,)
        What to call a case: its unit, or what the caller named, or its row.
    groups : ndarray of shape (n,) or None
        Patients.
    n_images : ndarray of shape (n,)
        Images of each case.
    case_of_image : ndarray of int
        Case that each image belongs to.
    subgroups : DataFrame of n rows or None
        Columns of categories.
    by_unit : bool
        Whether a case is a unit that was named, rather than an image.
    """

    kind: str
    classes: tuple
    class_names: tuple[str, ...]
    y: np.ndarray
    score: np.ndarray
    name: np.ndarray
    groups: np.ndarray | None
    n_images: np.ndarray
    case_of_image: np.ndarray
    subgroups: "pd.DataFrame | None"
    by_unit: bool

    @property
    def first_image(self) -> np.ndarray:
        """Row of the first image of each case."""
        return np.unique(self.case_of_image, return_index=True)[1]

    @property
    def noun(self) -> str:
        """What one case is called."""
        return "unit" if self.by_unit else "image"

    @property
    def named_y(self) -> np.ndarray:
        """Names of the classes of the cases, of two classes or more."""
        if self.kind == "binary":
            return np.array(self.class_names)[self.y.astype(int)]
        names = dict(zip(self.classes, self.class_names, strict=True))
        return np.array([names[label] for label in self.y.tolist()])

    def parts(self) -> Iterator[tuple[str, np.ndarray]]:
        """Each subgroup: its name, and which cases are in it."""
        if self.subgroups is None:
            return
        for column in self.subgroups:
            levels = self.subgroups[column]
            for level in levels.cat.categories:
                yield f"{column}: {level}", (levels == level).to_numpy()

    def counts(self) -> str:
        """Numbers of images, units and patients, as a sentence has them."""
        parts = [f"{self.n_images.sum()} images"]
        if self.by_unit:
            parts.append(f"{len(self.y)} units")
        if self.groups is not None:
            parts.append(f"{len(np.unique(self.groups))} patients")
        return " of ".join(parts)


class CaseReader:
    """Turns the probabilities of one model after another into cases, all alike.

    Parameters
    ----------
    X, y, pos_label, classes, class_names, unit, groups, aggregate, label : object
        As in `skmedimg.evaluation.evaluate`.
    """

    def __init__(
        self,
        X: Any,
        y: Any,
        *,
        pos_label: Any = None,
        classes: Any = None,
        class_names: Mapping[Any, str] | None = None,
        unit: Any = None,
        groups: Any = None,
        aggregate: Any = "mean",
        label: str = "same",
    ) -> None:
        self.X = X
        self.y = _as_labels(y)
        n = len(self.y)
        groups = groups_of(X) if groups is None else groups
        self.groups = _per_case("groups", groups, "patient", n)
        self.unit = _per_case("unit", unit, "unit", n)
        self._aggregate, self._label = aggregate, label
        self._classes = None if classes is None else tuple(np.asarray(classes).tolist())
        self.kind = self._kind()
        self.labels = self._labels(pos_label)
        names = class_names or {}
        self.class_names = tuple(
            f"{names[label]} ({label})" if label in names else str(label)
            for label in self.labels
        )

    def _kind(self) -> str:
        if self.y.ndim == 2:
            if self.unit is not None:
                raise ValueError(
                    "unit= joins images that have one label each, and y has "
                    f"{self.y.shape[1]} label columns: evaluate one label at a time."
                )
            return "multilabel"
        classes = encode(self.y, "y")[1] if self._classes is None else self._classes
        return "multiclass" if len(classes) > 2 else "binary"

    def _labels(self, pos_label: Any) -> tuple:
        """Classes in the order of the columns; for two, the positive one is last."""
        if self.kind == "multilabel":
            names = range(self.y.shape[1]) if self._classes is None else self._classes
            return tuple(names)
        found = encode(self.y, "y")[1]
        if self.kind == "multiclass":
            if pos_label is not None:
                raise ValueError(
                    f"pos_label={pos_label!r}, and there are {len(found)} classes: "
                    "leave it out, or evaluate one class against the rest by "
                    "y == label with the probabilities of that label."
                )
            return tuple(sorted(found) if self._classes is None else self._classes)
        positive = found[positive_code(found, pos_label)]
        (negative,) = (label for label in found if label != positive)
        return negative, positive

    def read(
        self,
        proba: np.ndarray,
        classes: tuple | None = None,
        names: Any = None,
        subgroups: Any = None,
    ) -> Cases:
        """Cases of probabilities of the images.

        Parameters
        ----------
        proba : ndarray of shape (n,), (n, n_classes) or (n, n_labels)
            Probabilities by a model.
        classes : tuple, default=None
            Of its columns, where it has an order of its own.
        names : array-like of shape (n,), default=None
            Of the images.
        subgroups : DataFrame, mapping or array-like, default=None
            Levels of each image.

        Returns
        -------
        Cases
            By unit where units are known.
        """
        score = self._score(proba, classes)
        y = self.y == self.labels[1] if self.kind == "binary" else self.y
        n = len(y)
        table = as_subgroups(subgroups, n)
        if self.unit is None:
            rows = np.arange(n)
            name = rows if names is None else one_per_image("names", names, "name", n)
            ones = np.ones(n, dtype=int)
            values = (y, score, name, self.groups, ones, rows, table)
            return Cases(self.kind, self.labels, self.class_names, *values, False)
        units = aggregate_by_unit(
            y.astype(int) if self.kind == "binary" else y,
            score,
            self.unit,
            method=self._aggregate,
            label=self._label,
            groups=self.groups,
        )
        place = {name: i for i, name in enumerate(units.unit.tolist())}
        case = np.array([place[name] for name in self.unit.tolist()])
        if table is not None:
            _check_constant(table, self.unit)
            first = np.unique(case, return_index=True)[1]
            table = table.iloc[first].reset_index(drop=True)
        joined = units.y.astype(bool) if self.kind == "binary" else units.y
        head = (self.kind, self.labels, self.class_names)
        return Cases(
            *head, joined, units.proba, units.unit, units.groups, units.n_images,
            case, table, by_unit=True,
        )  # fmt: skip

    def _score(self, proba: np.ndarray, classes: tuple | None) -> np.ndarray:
        """Probabilities in the order of `labels`; for two classes of the positive."""
        proba = np.asarray(proba, dtype=float)
        self._check(proba)
        if self.kind == "multilabel" or proba.ndim == 1:
            return proba
        if proba.shape[1] == 1:
            return proba[:, 0]
        order = list(classes or self._classes or sorted(self.labels))
        if set(order) != set(self.labels):
            raise ValueError(
                f"the probabilities are of the classes {order}, and y holds "
                f"{sorted(self.labels, key=str)}: evaluate on cases of the same "
                "classes."
            )
        columns = [order.index(label) for label in self.labels]
        return proba[:, columns[1]] if self.kind == "binary" else proba[:, columns]

    def _check(self, proba: np.ndarray) -> None:
        n, k = len(self.y), len(self.labels)
        shapes = {(n, k)} | ({(n,), (n, 1)} if self.kind == "binary" else set())
        if proba.shape not in shapes:
            raise ValueError(
                f"the probabilities have shape {proba.shape}; {n} labels of "
                f"{k} classes need {' or '.join(map(str, sorted(shapes)))}."
            )
        bad = ~((proba >= 0) & (proba <= 1))
        if bad.any():
            raise ValueError(
                f"{int(bad.sum())} of the probabilities are missing or outside 0 to "
                f"1, such as {proba[bad][0]:g}: thresholds, calibration and net "
                "benefit need probabilities. For scores of another scale take "
                "skmedimg.metrics.roc_auc_ci."
            )


def probabilities(source: Any, X: Any) -> tuple[np.ndarray, Any]:
    """Probabilities of a model, or the ones given; and its classes where it has any."""
    if not hasattr(source, "predict_proba"):
        if hasattr(source, "predict"):
            raise ValueError(
                f"{type(source).__name__} has no predict_proba: pass a classifier that "
                "has one, for example in sklearn.calibration.CalibratedClassifierCV, "
                "or the probabilities."
            )
        return np.asarray(source), None
    check_is_fitted(source)
    if X is None:
        raise ValueError("X is None: an estimator needs images, X=, to be evaluated.")
    proba = source.predict_proba(X)
    classes = source.classes_
    several = np.ndim(classes) == 1 and len(classes) == np.shape(proba)[1]
    return proba, tuple(classes.tolist()) if several else None


def as_subgroups(subgroups: Any, n: int) -> "pd.DataFrame | None":
    """Levels as a frame: numbers of many levels in thirds, missing ones named so."""
    import pandas as pd

    if subgroups is None:
        return None
    if not isinstance(subgroups, Mapping | pd.DataFrame):
        name = getattr(subgroups, "name", None) or "subgroup"
        subgroups = {name: subgroups}
    columns = {str(name): np.asarray(values) for name, values in subgroups.items()}
    for name, values in columns.items():
        if values.shape != (n,):
            raise ValueError(
                f"subgroups[{name!r}] has shape {values.shape} for {n} images: give "
                "one level an image."
            )
    return pd.DataFrame({name: _levels(v) for name, v in columns.items()})


def _levels(values: np.ndarray) -> "pd.Series":
    """Categories as text, in their natural order; what is missing is one of its own."""
    import pandas as pd

    column = pd.Series(values)
    if pd.api.types.is_numeric_dtype(column) and column.nunique() > _MOST_LEVELS:
        third = pd.qcut(column, 3, duplicates="drop", labels=False)
        ends = column.groupby(third).agg(["min", "max"])
        texts = [f"{low:g} to {high:g}" for low, high in ends.to_numpy().tolist()]
        codes = third.fillna(-1).to_numpy(dtype=int)
    else:
        codes, found = pd.factorize(column, sort=True)
        texts = [str(level) for level in found]
    if (codes < 0).any():
        codes = np.where(codes < 0, len(texts), codes)
        texts.append("not known")
    return pd.Series(pd.Categorical.from_codes(codes, pd.Index(texts)))


def _check_constant(table: "pd.DataFrame", unit: np.ndarray) -> None:
    for name in table:
        counts = table[name].astype(str).groupby(unit).nunique()
        mixed = counts.index[counts > 1]
        if len(mixed):
            raise ValueError(
                f"subgroups[{name!r}] differs within {len(mixed)} units, such as "
                f"{mixed[0]!r}: a unit is in one subgroup. Give a level for each unit."
            )


def _as_labels(y: Any) -> np.ndarray:
    if y is None:
        raise ValueError("y is None: an evaluation needs the true labels, y=.")
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim not in (1, 2) or len(y) == 0:
        raise ValueError(
            f"y has shape {y.shape}: give a label a case, or a row of 0 and 1."
        )
    return y.astype(float) if y.ndim == 2 else y


def _per_case(name: str, values: Any, what: str, n: int) -> np.ndarray | None:
    return None if values is None else one_per_image(name, values, what, n)
