"""The sampler and the pruner of a search, which know of lost trials."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from skmedimg.model_selection._study import (
    BY_FOLD,
    HORIZON,
    is_lost,
    position,
)

# By `benchmarks/try_pruner.py` the best of 36 trials is found after .25, .20, .18 and
# .15 of the cost of all (four sets of images, medians of 40 seeds), without pruning
# after .61, .43, .43 and .55. By the score at each look, in place of the mean so far,
# the best five were as far behind as 18th at a sixth of the course and 20th at a
# third, where the rate of a one-cycle schedule is highest; by the mean they were 10th
# at most. Keeping a quarter or half, looking at a ninth and a third, or beginning
# with three or eight random trials gained nothing, or took more.
_KEPT = 3
_SHARES = (18, 6, 2)
_RANDOM = 5


def make_tpe(seed: int) -> BaseSampler:
    """Optuna's standard sampler; what others are trying meanwhile counts as bad."""
    return TPESampler(seed=seed, constant_liar=True, n_startup_trials=_RANDOM)


class SeededSampler(BaseSampler):
    """A sampler that is made anew for each trial, seeded by how many came before.

    What it draws depends on the seed and on the finished trials alone, so that a search
    that was killed goes on as if it had not been. Lost trials do not count.

    Parameters
    ----------
    make : callable
        ``make(seed=seed)`` gives a sampler.
    seed : int
        Seed of the search.
    """

    def __init__(self, make: Callable[..., BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._sampler: BaseSampler | None = None

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Make the sampler of this trial."""
        seed = seed_at(self._seed, position(study, trial.number))
        self._sampler = self._make(seed=seed)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """As the sampler of this trial."""
        assert self._sampler is not None
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, Any]
    ) -> dict[str, Any]:
        """As the sampler of this trial."""
        assert self._sampler is not None
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """As the sampler of this trial."""
        assert self._sampler is not None
        return self._sampler.sample_independent(
            study, trial, param_name, param_distribution
        )

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """As the sampler of this trial; a lost trial of others has none here."""
        if self._sampler is not None:
            self._sampler.after_trial(study, trial, state, values)


class EarlyPruner(BasePruner):
    """Successive halving, by the mean score of a trial over its epochs so far.

    After an eighteenth, a sixth and half of its own epochs (or folds) a trial goes on
    only if it is in the best third of those that came so far; asynchronous, so that
    none waits for others. The mean, because the score at one epoch says little while
    the rate of a one-cycle schedule is high. Shares rather than epochs, because a
    schedule makes the same epoch another thing where the epochs are searched. Optuna's
    `SuccessiveHalvingPruner` would count a lost trial, and so end otherwise after a
    crash.

    References
    ----------
    Li et al., "A system for massively parallel hyperparameter tuning", MLSys 2020.
    """

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial is to end here."""
        if trial.last_step not in (looks := _looks(trial)):
            return False
        look = looks.index(trial.last_step)
        # Of trials with the same parameters one: those that are drawn again and again
        # are not to be in the way of others.
        scores = {
            point(t.params) or t.number: _mean_score(t, look)
            for t in [*study.get_trials(deepcopy=False), trial]
            if HORIZON in t.user_attrs
            and not is_lost(t)
            and _looks(t)[look] in t.intermediate_values
        }
        best = np.sort(list(scores.values()))[::-1]
        kept = best[max(1, len(best) // _KEPT) - 1]
        return not _mean_score(trial, look) >= kept

    def by_promise(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Trials whose parameters were pruned, and have neither ended nor failed.

        Those that came furthest are first, by their scores there.
        """
        ended = {point(t.params) for t in trials if t.state != TrialState.PRUNED}
        pruned = [
            (looks.index(t.last_step), t)
            for t in trials
            if t.state == TrialState.PRUNED
            and point(t.params) not in ended
            and t.last_step in (looks := _looks(t))
        ]
        pruned.sort(key=lambda p: (p[0], _mean_score(p[1], p[0])), reverse=True)
        return [trial for _, trial in pruned]


def point(params: dict[str, Any]) -> str:
    """What tells one set of parameters from another; empty where none was drawn."""
    return repr(sorted(params.items())) if params else ""


def _looks(trial: FrozenTrial) -> list[int]:
    horizon = trial.user_attrs[HORIZON]
    return [max(1, round(horizon / share)) for share in _SHARES]


def _mean_score(trial: FrozenTrial, look: int) -> float:
    """Mean over the epochs up to a look; that over folds is what a trial reports."""
    step, values = _looks(trial)[look], trial.intermediate_values
    if BY_FOLD in trial.user_attrs:
        return values[step]
    return float(np.mean([value for at, value in values.items() if at <= step]))


def seed_at(seed: int, position: int) -> int:
    """Seed of one trial, by how many came before."""
    return int(np.random.SeedSequence([seed, position]).generate_state(1)[0])


def check_sampling(sampler: Any, pruner: Any) -> None:
    """Refuse what is no sampler or pruner before the first trial trains."""
    if not (sampler is None or callable(sampler) or isinstance(sampler, BaseSampler)):
        raise TypeError(
            f"sampler={sampler!r} must be a sampler of Optuna, or a callable that "
            "makes one from a seed, such as optuna.samplers.TPESampler."
        )
    if callable(sampler):
        made = _make_one(sampler)
        if not isinstance(made, BaseSampler):
            raise TypeError(
                f"sampler={sampler!r} made {made!r}, and no sampler of Optuna."
            )
    if not (pruner is None or isinstance(pruner, BasePruner)):
        raise TypeError(
            f"pruner={pruner!r} must be a pruner of Optuna, such as "
            "optuna.pruners.NopPruner()."
        )


def _make_one(sampler: Callable[..., Any]) -> Any:
    try:
        return sampler(seed=0)
    except TypeError as error:
        raise TypeError(
            f"sampler={sampler!r} cannot be called with seed alone ({error}): pass a "
            "sampler that is made already, or a function of seed that makes one."
        ) from error


def make_sampler(sampler: Any, seed: int, n_jobs: int) -> BaseSampler:
    """Sampler of one process."""
    if isinstance(sampler, BaseSampler):
        if n_jobs > 1:
            # Copies of one generator would draw the same in every process.
            sampler.reseed_rng()
        return sampler
    return SeededSampler(make_tpe if sampler is None else sampler, seed)
