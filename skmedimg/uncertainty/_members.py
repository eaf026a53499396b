"""What meta-estimators do with an estimator: fit it with groups, tell what it takes."""

from copy import deepcopy
from typing import Any

from sklearn import get_config
from sklearn.base import clone
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import has_fit_parameter


def fit_member(
    estimator: Any, X: Any, y: Any, sample_weight: Any = None, groups: Any = None
) -> Any:
    """Fit a clone, with the weights and with the groups where its `fit` takes them."""
    params = {}
    if sample_weight is not None:
        params["sample_weight"] = sample_weight
    if groups is not None and _takes_groups(estimator):
        params["groups"] = groups
    return clone(estimator).fit(X, y, **params)


def _takes_groups(estimator: Any) -> bool:
    if get_config()["enable_metadata_routing"]:
        return bool(get_routing_for_object(estimator).consumes("fit", ["groups"]))
    return has_fit_parameter(estimator, "groups")


def adopt_features(meta: Any, estimator: Any) -> None:
    """Set the numbers and names of features, as far as a fitted estimator has them."""
    for name in ("n_features_in_", "feature_names_in_"):
        meta.__dict__.pop(name, None)
        if hasattr(estimator, name):
            setattr(meta, name, getattr(estimator, name))


def input_tags_of(estimator: Any) -> Any:
    """What a meta-estimator may be given: whatever its estimator takes."""
    return deepcopy(get_tags(estimator).input_tags)
