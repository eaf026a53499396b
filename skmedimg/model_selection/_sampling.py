"""The sampler and the pruner of a search, which know of lost trials."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from skmedimg.model_selection._study import HORIZON, is_lost, n_known, position

# A third of the trials goes on at a sixth of the course. The curves of a grid of 36
# trials of 18 epochs (1,000 images of PneumoniaMNIST, not those of `bench_search.py`,
# and BreastMNIST) were replayed in 40 orders: the best trial was found in 38 of both,
# in the median after .20 and .19 of the grid's cost. A look at a ninth found it in 39
# and 40, after .16, but on the images of `bench_search.py` in none of two, where a look
# at a sixth found it in three of three. A second look, at a third, lost it on
# PneumoniaMNIST in 88 % of the orders, because the rate of a one-cycle schedule is
# highest at a fifth: from epoch 4 to 12 the best trial was mostly 11th to 14th.
# Optuna's ten random trials before its sampler begins, in place of five, take .03 more.
_KEPT = 3
_SHARE = 6
_RANDOM = 5


def make_tpe(seed: int) -> BaseSampler:
    """Optuna's standard sampler; what others are trying meanwhile counts as bad."""
    return TPESampler(seed=seed, constant_liar=True, n_startup_trials=_RANDOM)


class SeededSampler(BaseSampler):
    """A sampler that is made anew for each trial, seeded by how many came before.

    What it draws depends on the seed and on the finished trials alone, so that a search
    that was killed goes on as if it had not been. Lost trials do not count. Where what
    it drew is known already, a random draw follows.

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
        again = n_known(study, trial.number)
        entropy = [self._seed, position(study, trial.number), again]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        # What is known was drawn last: of few values they hardly draw others.
        self._sampler = RandomSampler(seed) if again else self._make(seed=seed)
        if not isinstance(self._sampler, BaseSampler):
            raise TypeError(
                f"sampler={self._make!r} made {self._sampler!r}, and no sampler of "
                "Optuna."
            )
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
    """One look, at a share of each trial's own course.

    At a sixth of its epochs (or folds) a trial goes on only if it is in the best third
    of those that came so far; a rung of asynchronous successive halving. A share rather
    than an epoch, because a schedule makes the same epoch another thing where the
    epochs are searched. Optuna's `SuccessiveHalvingPruner` would count a lost trial,
    and so end otherwise after a crash.

    References
    ----------
    Li et al., "A system for massively parallel hyperparameter tuning", MLSys 2020.
    """

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial is to end here."""
        step = trial.last_step
        if step is None or step != _look(trial):
            return False
        value = trial.intermediate_values[step]
        # Of trials with the same parameters one: those that are drawn again and again
        # are not to be in the way of others.
        values = {
            _point(t): t.intermediate_values[_look(t)]
            for t in study.get_trials(deepcopy=False)
            if HORIZON in t.user_attrs
            and not is_lost(t)
            and _look(t) in t.intermediate_values
        }
        values[_point(trial)] = value
        best = np.sort(list(values.values()))[::-1]
        return not value >= best[max(1, len(best) // _KEPT) - 1]


def _point(trial: FrozenTrial) -> str:
    """What a trial stands for; one that has drawn nothing for itself."""
    return repr(sorted(trial.params.items()) or trial.number)


def _look(trial: FrozenTrial) -> int:
    return max(1, round(trial.user_attrs[HORIZON] / _SHARE))


def check_sampling(sampler: Any, pruner: Any) -> None:
    """Refuse what is no sampler or pruner before the first trial trains."""
    if not (sampler is None or callable(sampler) or isinstance(sampler, BaseSampler)):
        raise TypeError(
            f"sampler={sampler!r} must be a sampler of Optuna, or a callable that "
            "makes one from a seed, such as optuna.samplers.TPESampler."
        )
    if not (pruner is None or isinstance(pruner, BasePruner)):
        raise TypeError(
            f"pruner={pruner!r} must be a pruner of Optuna, such as "
            "optuna.pruners.NopPruner()."
        )


def make_sampler(sampler: Any, seed: int, n_jobs: int) -> BaseSampler:
    """Sampler of one process."""
    if isinstance(sampler, BaseSampler):
        if n_jobs > 1:
            # Copies of one generator would draw the same in every process.
            sampler.reseed_rng()
        return sampler
    return SeededSampler(make_tpe if sampler is None else sampler, seed)
