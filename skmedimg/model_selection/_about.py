"""What makes two searches one study: space, estimator, scoring, code, values, data."""

from collections.abc import Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
from sklearn.base import clone

from skmedimg._fit_key import code_of, values_of, weights_key
from skmedimg._words import without_address
from skmedimg.io import ImageSequence
from skmedimg.model_selection._space import Space, last_step
from skmedimg.model_selection._study import CODE, DATA, VALUES

if TYPE_CHECKING:
    from skmedimg.model_selection._search import OptunaSearchCV

_AT_ONCE = 64  # images that are read together


def about_search(
    search: "OptunaSearchCV",
    space: Space,
    X: Any,
    y: Any,
    splits: list,
    besides: list,
) -> dict[str, Any]:
    """Tell a search from any other.

    Parameters
    ----------
    search : OptunaSearchCV
        Its parameters.
    space : Space
        What it draws from.
    X, y : array-like
        Images and labels.
    splits : list of (ndarray, ndarray)
        The folds.
    besides : list
        What fits and scores are given besides.

    Returns
    -------
    dict of str to JSON
        Equal parts of two searches are equal.
    """
    estimator, refit = _plain(search.estimator), search.refit
    maximised = f", maximised {refit!r}" if isinstance(refit, str) else ""
    given = [*besides, _starting_weights(search)]
    return {
        "space": space.describe(),
        "estimator": without_address(estimator.__repr__(N_CHAR_MAX=10**6)),
        "scoring": without_address(repr(search.scoring)) + maximised,
        CODE: code_of(search.param_distributions, estimator, search.scoring),
        VALUES: values_of(search.param_distributions, estimator),
        DATA: _fingerprint(X, y, splits, given),
    }


def _starting_weights(search: "OptunaSearchCV") -> list[str]:
    """Which weights the fits may begin with, whatever file they are in."""
    prefix, last = last_step(search.estimator)
    if not hasattr(last, "_epochs"):  # no image estimator
        return []
    weights, space = [getattr(last, "weights", None)], search.param_distributions
    if isinstance(space, Mapping) and f"{prefix}weights" in space:
        searched: Any = space[f"{prefix}weights"]
        weights += list(getattr(searched, "choices", searched))
    return [weights_key(w) for w in weights if w is not None]


def _plain(estimator: Any) -> Any:
    """An estimator without what does not change its scores."""
    plain = clone(estimator)
    params = plain.get_params(deep=True)
    for name, value in params.items():
        above, _, last = name.rpartition("__")
        if last in ("checkpoint", "device", "verbose", "n_jobs"):
            # As it is by default, which does not show.
            owner = params.get(above) if above else plain
            plain.set_params(**{name: _default(type(owner), last)})
        elif last == "callbacks" and isinstance(value, list):
            # Functions there make loggers.
            kept = [cb for cb in value if isinstance(cb, type) or not callable(cb)]
            plain.set_params(**{name: kept or None})
    return plain


def _default(of: type, name: str) -> Any:
    """Default of a parameter; None where it has none."""
    parameter = signature(of).parameters.get(name)
    if parameter is None or parameter.default is parameter.empty:
        return None
    return parameter.default


def _pixels(X: Any) -> np.ndarray:
    return X.to_numpy() if isinstance(X, ImageSequence) else np.asarray(X)


def _fingerprint(X: Any, y: Any, splits: list, besides: list) -> str:
    """Tells other data or folds from these."""
    images = X
    if isinstance(X, ImageSequence | np.ndarray):
        # A part at a time: it may not fit into memory. Alike wherever it is kept.
        parts = (X[i : i + _AT_ONCE] for i in range(0, len(X), _AT_ONCE))
        images = [joblib.hash(np.ascontiguousarray(_pixels(part))) for part in parts]
    besides = [
        {name: np.asarray(value) for name, value in part.items()}
        if isinstance(part, dict)
        else part
        for part in besides
    ]
    labels = None if y is None else np.asarray(y)
    return str(joblib.hash([images, labels, splits, besides]))
