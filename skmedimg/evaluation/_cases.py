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

# A subgroup of more numbers or dates is cut into thirds.
MOST_LEVELS = 10
# Of text, more levels are names or identifiers, not subgroups.
_MOST_TEXTS = 60
# By how much the probabilities of a row may miss 1, for each of its classes: they are
# rounded.
_ROUNDING = 0.01


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
        unknown = [label for label in names if label not in self.labels]
        if unknown:
            raise ValueError(
                f"class_names names {unknown[0]!r}, which is not among the labels "
                f"{', '.join(map(repr, self.labels))}."
            )
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
        if len(classes) > 2 and self.y.dtype.kind == "f":
            broken = self.y[self.y != np.rint(self.y)]
            if len(broken):
                raise ValueError(
                    f"y holds {broken[0]:g}, which is no label: it looks like a "
                    "probability. Are labels and probabilities swapped?"
                )
        return "multiclass" if len(classes) > 2 else "binary"

    def _labels(self, pos_label: Any) -> tuple:
        """Classes in the order of the columns; for two, the positive one is last."""
        if self.kind == "multilabel":
            if pos_label is not None:
                raise ValueError(
                    f"pos_label={pos_label!r}, and y has {self.y.shape[1]} columns of "
                    "0 and 1, of which 1 is positive: leave it out."
                )
            names = range(self.y.shape[1]) if self._classes is None else self._classes
            _check_indicators(self.y, tuple(names))
            return tuple(names)
        found = encode(self.y, "y")[1]
        strange = set(found) - set(self._classes or found)
        if strange:
            raise ValueError(
                f"y holds {min(strange, key=str)!r}, and the classes are "
                f"{', '.join(map(repr, self._classes or ()))}: leave these images out, "
                "or evaluate a model that knows the class."
            )
        if self.kind == "multiclass":
            if pos_label is not None:
                raise ValueError(
                    f"pos_label={pos_label!r}, and there are {len(found)} classes "
                    f"({', '.join(map(repr, found[:5]))}{', …' * (len(found) > 5)}): "
                    "leave it out, or evaluate one class against the rest by "
                    "y == label with the probabilities of that label."
                )
            return tuple(sorted(found) if self._classes is None else self._classes)
        positive = found[positive_code(found, pos_label, "y")]
        (negative,) = (label for label in found if label != positive)
        return negative, positive

    def of_others(self, y: Any, groups: Any, unit: Any) -> "CaseReader":
        """What reads other images of the same question.

        Parameters
        ----------
        y : array-like of shape (m,)
            Their labels.
        groups, unit : array-like of shape (m,) or None
            Their patients and units.

        Returns
        -------
        CaseReader
            With the same positive class, order of columns, and way to join images.
        """
        return CaseReader(
            None, y, pos_label=self.labels[-1], classes=self._classes, unit=unit,
            groups=groups, aggregate=self._aggregate, label=self._label,
        )  # fmt: skip

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
        if len(np.unique(joined)) == 1:
            raise ValueError(
                f"with label={self._label!r} all {len(joined)} units are of one class, "
                "and have no area under the ROC curve: evaluate units of two classes "
                "or more, or another label=."
            )
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
        if self.kind == "binary":
            return proba[:, columns[1]]
        # Rounding alone has kept a row from 1.
        return proba[:, columns] / proba.sum(axis=1, keepdims=True)

    def _check(self, proba: np.ndarray) -> None:
        n, k = len(self.y), len(self.labels)
        shapes = {(n, k)} | ({(n,), (n, 1)} if self.kind == "binary" else set())
        if proba.shape not in shapes:
            seen = ", ".join(map(repr, self.labels[:5])) + ", …" * (k > 5)
            raise ValueError(
                f"the probabilities have shape {proba.shape}; {n} labels of "
                f"{k} classes ({seen}) need {' or '.join(map(str, sorted(shapes)))}."
            )
        bad = ~((proba >= 0) & (proba <= 1))
        if bad.any():
            raise ValueError(
                f"{int(bad.sum())} of the probabilities are missing or outside 0 to "
                f"1, such as {proba[bad][0]:g}: thresholds, calibration and net "
                "benefit need probabilities. Divide per cent by 100; for scores of "
                "another scale take skmedimg.metrics.roc_auc_ci."
            )
        if self.kind == "multilabel" or proba.shape in ((n,), (n, 1)):
            return
        total = proba.sum(axis=1)
        if np.abs(total - 1).max() > _ROUNDING * k:
            worst = total[np.abs(total - 1).argmax()]
            raise ValueError(
                f"the probabilities of a row sum to {worst:g}, not to 1: give a column "
                f"for each of the {k} classes, with two decimals or more; for several "
                "labels an image give y a column of 0 and 1 for each."
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
        proba = np.asarray(source)
        text = [str(value) for value in proba.flat if isinstance(value, str)]
        if text:
            raise ValueError(
                f"estimator_or_proba holds text such as {text[0]!r}: pass "
                "probabilities, predict_proba(X), not labels."
            )
        return proba, None
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
    columns = {}
    for name, values in subgroups.items():
        shape = np.shape(values)
        if shape != (n,):
            raise ValueError(
                f"subgroups[{str(name)!r}] has shape {shape} for {n} images: give "
                "one level an image."
            )
        columns[str(name)] = _levels(str(name), values)
    return pd.DataFrame(columns)


def _levels(name: str, values: Any) -> "pd.Series":
    """Categories as text, in their natural order; what is missing is one of its own."""
    import pandas as pd

    # Categories keep the order they have.
    column = pd.Series(getattr(values, "array", values)).reset_index(drop=True)
    of_time = pd.api.types.is_datetime64_any_dtype(column)
    measured = of_time or pd.api.types.is_numeric_dtype(column)
    if measured and column.nunique() > MOST_LEVELS:
        codes = _thirds(column)
        ends = column[codes >= 0].groupby(codes[codes >= 0]).agg(["min", "max"])
        form = "%Y-%m-%d" if of_time else "g"
        texts = [
            f"{a:{form}}" if a == b else f"{a:{form}} to {b:{form}}"
            for a, b in ends.itertuples(index=False)
        ]
    else:
        codes, found = pd.factorize(column, sort=True)
        texts = [str(level) for level in found]
    if len(texts) > _MOST_TEXTS:
        raise ValueError(
            f"subgroups[{name!r}] has {len(texts)} levels, such as {texts[0]!r}: that "
            f"many are no subgroups, and names would be in the report. Join them to "
            f"{_MOST_TEXTS} or fewer; numbers and dates are cut into thirds."
        )
    if (codes < 0).any():
        codes = np.where(codes < 0, len(texts), codes)
        texts.append("not known")
    return pd.Series(pd.Categorical.from_codes(codes, pd.Index(texts)))


def _thirds(column: "pd.Series") -> np.ndarray:
    """Number of the third of each value, -1 where there is none."""
    import pandas as pd

    place = np.zeros(len(column), dtype=int)
    for share in (1 / 3, 2 / 3):
        cut = column.quantile(share, interpolation="lower")
        above = column > cut
        # A value that many images share may be the greatest: it stands alone then.
        above = above if above.any() else column >= cut
        place += above.fillna(False).to_numpy(dtype=bool)
    missing = column.isna().to_numpy()
    codes = pd.factorize(place[~missing], sort=True)[0]
    place[missing] = -1
    place[~missing] = codes
    return place


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
        raise ValueError(
            "y is None: an evaluation needs the true labels. The second argument is X: "
            "with probabilities write evaluate(proba, y=y)."
        )
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim not in (1, 2) or len(y) == 0:
        raise ValueError(
            f"y has shape {y.shape}: give a label a case, or a row of 0 and 1."
        )
    return y.astype(float) if y.ndim == 2 else y


def _check_indicators(y: np.ndarray, names: tuple) -> None:
    strange = y[~np.isnan(y) & (y != 0) & (y != 1)]
    if len(strange):
        raise ValueError(
            f"y holds {strange[0]:g}: a column of y is 1 where its label is present, 0 "
            "where it is not, NaN where nobody knows."
        )
    for name, column in zip(names, y.T, strict=False):
        n_present, n_absent = int((column == 1).sum()), int((column == 0).sum())
        if not (n_present and n_absent):
            raise ValueError(
                f"the label {name!r} is present in {n_present} images and absent in "
                f"{n_absent}, and has no area under the ROC curve: evaluate without "
                "its column."
            )


def _per_case(name: str, values: Any, what: str, n: int) -> np.ndarray | None:
    return None if values is None else one_per_image(name, values, what, n)
