"""What a search may try: distributions of parameters, and a space to begin with."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from skmedimg._words import without_address

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import BaseTrial, FrozenTrial, Trial

Params = dict[str, Any]
# So many find a pair of values that do not go together, if one draw in ten has it.
_DRAWS = 30


class TableSpace:
    """Parameters that are drawn each from a distribution of its own.

    Parameters
    ----------
    table : mapping of str to distribution
        Optuna distributions, frozen `scipy.stats` distributions, or lists.
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        if not table:
            raise ValueError(
                "param_distributions is empty: there is nothing to search. Name at "
                "least one parameter, for example {'lr': [1e-3, 3e-3]}."
            )
        self._entries = {
            name: _make_entry(name, values) for name, values in table.items()
        }
        self._quantiles = {
            f"quantiles of {name}": repr([values.dist.name, values.args, values.kwds])
            for name, values in table.items()
            if isinstance(self._entries[name][1], partial)
        }

    def suggest(self, trial: "BaseTrial") -> Params:
        """Draw the parameters of a trial."""
        return {
            name: decode(_draw(trial, name, distribution))
            for name, (distribution, decode) in self._entries.items()
        }

    def restore(self, trial: "FrozenTrial") -> Params:
        """Parameters of the estimator, from what a study has kept of a trial."""
        return {
            name: decode(trial.params[name])
            for name, (_, decode) in self._entries.items()
        }

    def describe(self) -> dict[str, str]:
        """How the space reads, to tell it from another."""
        drawn = {name: entry[0] for name, entry in self._entries.items()}
        return _as_json(drawn) | self._quantiles

    def check_names(self, estimator: Any) -> None:
        """Raise where the estimator has no such parameter."""
        known = estimator.get_params(deep=True)
        for name in self._entries:
            if not isinstance(name, str):
                raise TypeError(f"param_distributions names {name!r}: names are str.")
            # A part that is searched itself may bring parameters of its own.
            parts = name.split("__")
            above = {"__".join(parts[:i]) for i in range(1, len(parts))}
            if name in known or above & set(self._entries):
                continue
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {sorted(known)}"
            raise ValueError(
                f"param_distributions names {name!r}, which "
                f"{type(estimator).__name__} does not have: {hint}"
            )


class FunctionSpace:
    """Parameters that a function of the trial draws, some only where others ask.

    Parameters
    ----------
    function : callable
        ``function(trial)`` gives a dictionary of parameters.
    """

    def __init__(self, function: Callable[[Any], Params]) -> None:
        self._function = function

    def suggest(self, trial: "BaseTrial") -> Params:
        """Draw the parameters of a trial."""
        from optuna import TrialPruned

        try:
            params = self._function(trial)
        except TrialPruned as error:
            raise ValueError(
                f"param_distributions={_named(self._function)} raised TrialPruned: it "
                "cannot leave out what it has drawn. Draw only values that go together."
            ) from error
        if not isinstance(params, Mapping) or not params:
            raise ValueError(
                f"param_distributions={_named(self._function)} gave {params!r}; it "
                "must give a dictionary with at least one parameter of the estimator."
            )
        return dict(params)

    def restore(self, trial: "FrozenTrial") -> Params:
        """Parameters of the estimator, from what a study has kept of a trial."""
        from optuna.trial import FixedTrial

        return self.suggest(FixedTrial(trial.params, trial.number))

    def try_out(self, trial: "Trial") -> Params:
        """Draw, and see that the same comes from what a study will have kept."""
        params, name = self.suggest(trial), _named(self._function)
        advice = "it may go by what it draws from the trial, and by trial.number, alone"
        try:
            again = self.restore(trial._get_latest_trial())
        except Exception as error:
            raise ValueError(
                f"param_distributions={name} cannot be called for a trial that is "
                f"over ({error}): {advice}."
            ) from error
        if without_address(repr(again)) != without_address(repr(params)):
            raise ValueError(
                f"param_distributions={name} gave {params}, and of the same draws "
                f"{again}: {advice}."
            )
        return params

    def describe(self) -> dict[str, str]:
        """How the space reads, as far as one draw tells."""
        trial = _study_to_try().ask()
        self.suggest(trial)
        return _as_json(trial.distributions)

    def check_names(self, estimator: Any) -> None:
        """Nothing is known before a trial."""


Space = TableSpace | FunctionSpace


def make_space(param_distributions: Any, estimator: Any, X: Any) -> Space:
    """The space that `OptunaSearchCV` was given, checked on a draw."""
    if isinstance(param_distributions, str):
        if param_distributions != "default":
            raise ValueError(
                f"param_distributions={param_distributions!r} must be 'default', a "
                "dictionary of distributions or a function of the trial."
            )
        param_distributions = default_search_space(estimator, X)
    if isinstance(param_distributions, Mapping):
        space: Space = TableSpace(param_distributions)
    elif callable(param_distributions):
        space = FunctionSpace(param_distributions)
    else:
        raise TypeError(
            f"param_distributions is a {type(param_distributions).__name__}; pass a "
            "dictionary of distributions, a function of the trial or 'default'."
        )
    space.check_names(estimator)
    _try_out(space, estimator)
    return space


def _try_out(space: Space, estimator: Any) -> None:
    """Set draws on the estimator, before a study is touched and hours are spent.

    Several of a table, whose values may not go together; one of a function.
    """
    study, plain = _study_to_try(), clone(estimator)
    if isinstance(space, FunctionSpace):
        plain.set_params(**clone(space.try_out(study.ask()), safe=False))
        return
    for _ in range(_DRAWS):
        params = space.suggest(study.ask())
        plain.set_params(**clone(params, safe=False))


def _study_to_try() -> "Study":
    """A study of no consequence, whose trials are the same each time."""
    import optuna

    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))


def _as_json(distributions: dict[str, "BaseDistribution"]) -> dict[str, str]:
    from optuna.distributions import distribution_to_json

    return {name: distribution_to_json(d) for name, d in distributions.items()}


def _make_entry(
    name: str, values: Any
) -> tuple["BaseDistribution", Callable[[Any], Any]]:
    """A distribution that Optuna draws from, and what its draws stand for."""
    from optuna.distributions import BaseDistribution, CategoricalDistribution

    if isinstance(values, CategoricalDistribution):
        return _from_list(name, list(values.choices))
    if isinstance(values, BaseDistribution):
        return values, _itself
    if hasattr(values, "ppf") and hasattr(values, "dist"):
        return _from_scipy(name, values)
    if isinstance(values, Sequence | np.ndarray) and not isinstance(values, str):
        return _from_list(name, list(values))
    raise TypeError(
        f"param_distributions[{name!r}]={values!r} is not a distribution: pass one of "
        "optuna.distributions, a frozen one of scipy.stats such as "
        "loguniform(1e-4, 1e-2), or a list of values."
    )


def _itself(value: Any) -> Any:
    return value


def _draw(trial: "BaseTrial", name: str, distribution: "BaseDistribution") -> Any:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
    scale = {"step": distribution.step, "log": distribution.log}  # type: ignore[attr-defined]
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, low, high, **scale)
    return trial.suggest_float(name, low, high, **scale)


def _from_list(
    name: str, values: list[Any]
) -> tuple["BaseDistribution", Callable[[Any], Any]]:
    from optuna.distributions import CategoricalDistribution

    if not values:
        raise ValueError(
            f"param_distributions[{name!r}] is an empty list: give at least one value, "
            "or leave the parameter out."
        )
    labels = _labels(values)
    return CategoricalDistribution(labels), dict(
        zip(labels, values, strict=True)
    ).__getitem__


def _from_scipy(
    name: str, frozen: Any
) -> tuple["BaseDistribution", Callable[[Any], Any]]:
    from optuna.distributions import FloatDistribution, IntDistribution

    kind, (low, high) = frozen.dist.name, frozen.support()
    if kind == "uniform":
        return FloatDistribution(float(low), float(high)), _itself
    if kind in ("loguniform", "reciprocal") and not _is_moved(frozen):
        return FloatDistribution(float(low), float(high), log=True), _itself
    if kind == "randint":
        return IntDistribution(int(low), int(high)), _itself
    # Any other by its quantiles, which are uniform whatever the distribution.
    return FloatDistribution(1e-6, 1 - 1e-6), partial(_quantile, frozen)


def _is_moved(loguniform: Any) -> bool:
    """Whether it has a `loc`, so that the logarithm is of something else."""
    low, high = loguniform.support()
    return not np.isclose(loguniform.median(), np.sqrt(low * high))


def _quantile(frozen: Any, share: float) -> int | float:
    from scipy.stats import rv_discrete

    value = float(frozen.ppf(share))
    return int(value) if isinstance(frozen.dist, rv_discrete) else value


def _labels(values: list[Any]) -> list[Any]:
    """What a study keeps of each value, in JSON and the same in every process."""
    plain = [v.item() if isinstance(v, np.generic) else v for v in values]
    if all(isinstance(v, None | bool | int | float | str) for v in plain):
        # 1 == True: a dictionary would take one for the other; NaN it would not find.
        if len(set(plain)) == len(plain) and not any(v != v for v in plain):
            return plain
    labels = [v if isinstance(v, str) else _named(v) for v in plain]
    return [
        f"{label} [{i}]" if labels.count(label) > 1 else label
        for i, label in enumerate(labels)
    ]


def _named(value: Any) -> str:
    """How a value reads, without the address it has in this process."""
    if hasattr(value, "__qualname__"):
        return str(value.__qualname__)
    return without_address(repr(value))


def last_step(estimator: Any) -> tuple[str, Any]:
    """Prefix of the parameters of the last step of a pipeline, and that step."""
    prefix = ""
    while isinstance(estimator, Pipeline):
        name, estimator = estimator.steps[-1]
        prefix += f"{name}__"
    return prefix, estimator


def default_search_space(estimator: Any, X: Any = None) -> dict[str, Any]:
    """Return a space for an image estimator as it stands.

    What is searched is what pays: the learning rate around the optimizer's own, weight
    decay, augmentation, and where the architecture was left to the estimator, the
    width, blocks, activation and dropout of a residual network.

    Parameters
    ----------
    estimator : estimator
        Image estimator of this package, or a pipeline that ends in one.
    X : array-like or ImageSequence of n images, default=None
        Images of the search; few images, and volumes, get narrower networks.

    Returns
    -------
    dict of str to distribution
        By parameter of the estimator; to be changed at will and passed to
        `OptunaSearchCV`.

    Raises
    ------
    ValueError
        If the estimator is none of these.

    Examples
    --------
    >>> from skmedimg import CNNImageClassifier
    >>> from skmedimg.model_selection import default_search_space
    >>> space = default_search_space(CNNImageClassifier())
    >>> space["lr"]
    FloatDistribution(high=0.01, log=True, low=0.0003, step=None)
    >>> space["architecture__activation"]
    ['relu', 'silu']
    """
    from skmedimg._estimator import BaseImageEstimator

    prefix, estimator = last_step(estimator)
    if not isinstance(estimator, BaseImageEstimator):
        raise ValueError(
            f"There is no default space for {type(estimator).__name__}: pass "
            "param_distributions as a dictionary of distributions."
        )
    space = _training_space(estimator)
    space |= _augmentation_space(estimator)
    space |= _architecture_space(estimator, X, in_pipeline=prefix != "")
    return {prefix + name: values for name, values in space.items()}


def _training_space(estimator: Any) -> dict[str, Any]:
    from optuna.distributions import FloatDistribution

    from skmedimg._course import LEARNING_RATES

    lr = estimator.lr
    if lr == "auto":
        lr = LEARNING_RATES.get(str(estimator.optimizer), 1e-3)
    return {
        "lr": FloatDistribution(_round(lr / 10), _round(lr * 10 / 3), log=True),
        "weight_decay": FloatDistribution(1e-3, 0.3, log=True),
    }


def _round(value: float) -> float:
    return float(f"{value:.1g}")


def _augmentation_space(estimator: Any) -> dict[str, Any]:
    from skmedimg.augmentation import PRESETS, Augmentation

    now = estimator.augmentation
    if not isinstance(now, str):
        return {}
    preset = PRESETS[now]
    # What may change is known of the modality; how much is to be found.
    amounts = {k: v for k, v in preset.items() if isinstance(v, float | int)}
    half = {k: v if isinstance(v, bool) else v / 2 for k, v in amounts.items()}
    return {
        "augmentation": [
            Augmentation(**preset | half),
            Augmentation(**preset),
            Augmentation(**preset, cutout=0.3),
            Augmentation(**preset, mixup=0.2),
        ]
    }


def _architecture_space(estimator: Any, X: Any, in_pipeline: bool) -> dict[str, Any]:
    from skmedimg.architectures import ResNet

    if estimator.architecture not in ("auto", "resnet") or estimator.weights:
        return {}
    small = X is not None and _num_samples(X) < 200
    volumes = estimator.spatial_dims == 3
    if X is not None and not in_pipeline:  # a step before may make images of X
        few = _safe_indexing(X, np.arange(min(_num_samples(X), 2)))
        images = clone(estimator)._check_images(few, reset=True)
        volumes = images.spec.spatial_dims == 3
    return {
        "architecture": [ResNet()],
        "architecture__width": [4, 8, 16] if small or volumes else [8, 16, 32],
        "architecture__blocks": [1, 2],
        "architecture__activation": ["relu", "silu"],
        "architecture__dropout": [0.0, 0.2, 0.4],
    }
