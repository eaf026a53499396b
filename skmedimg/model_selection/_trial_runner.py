"""Trials of a search, whose folds advance together so that bad ones can end early."""

import math
import sys
import time
import warnings
from collections.abc import Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from numbers import Integral
from traceback import format_exc
from typing import Any

import numpy as np
import optuna
from sklearn.base import clone
from sklearn.metrics._scorer import _MultimetricScorer
from sklearn.model_selection._validation import _score
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import _check_method_params

from skmedimg._fit_names import fits_named, names_from
from skmedimg.model_selection._liveness import at_work, signs_of_life
from skmedimg.model_selection._sampling import (
    EarlyPruner,
    SeededSampler,
    make_sampler,
    point,
    seed_at,
)
from skmedimg.model_selection._space import Params, Space
from skmedimg.model_selection._study import (
    BY_FOLD,
    HORIZON,
    INSTEAD,
    RESULT,
    begin_trial,
    bury_lost_trials,
    disconnect,
    enqueue_again,
    finished,
    has_stopped,
    is_hopeless,
    let_stop,
    open_storage,
    ours,
    position,
    quiet_optuna,
    tell,
    trial_of,
)

_DRAWS = 1000  # so many find what is left of a few hundred values


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all trials of a search have in common; every process has it whole."""

    estimator: Any
    X: Any
    y: Any
    splits: list[tuple[np.ndarray, np.ndarray]]
    scorer: Any
    refit: Any  # the name of the score to maximise, where there are several
    fit_params: dict[str, Any]
    score_params: dict[str, Any]
    error_score: Any
    space: Space
    storage: Any
    study_name: str
    n_trials: int
    deadline: float  # time.time()
    sampler: Any
    pruner: Any
    seed: int
    n_jobs: int
    verbose: int
    n_before: int  # finished trials, when the call began

    @property
    def by_epoch(self) -> bool:
        return hasattr(self.estimator, "_epochs")

    def value(self, scores: dict[str, float] | None) -> float:
        """What the search maximises, of the scores of a fold."""
        if scores is None:  # its fit failed
            return float(self.error_score)
        if set(scores) == {"score"}:
            return scores["score"]
        if isinstance(self.refit, str) and self.refit in scores:
            return scores[self.refit]
        if self.refit is False or callable(self.refit):
            return next(iter(scores.values()))
        raise ValueError(
            f"refit={self.refit!r} does not say by which of the scores "
            f"{sorted(scores)} to choose: name one of them, or pass refit=False."
        )


def train_by_steps(
    estimator: Any,
    X: Any,
    y: Any,
    fit_params: dict[str, Any],
    **how: Any,
) -> Generator[int, None, None]:
    """Fit, and stop to look after each epoch; without epochs at the end alone."""
    if hasattr(estimator, "_epochs"):
        estimator._validate_params()
        yield from estimator._epochs(X, y, **fit_params, **how)
    elif y is None:
        estimator.fit(X, **fit_params)
        yield 1
    else:
        estimator.fit(X, y, **fit_params)
        yield 1


class Fold:
    """One fold of a trial: an estimator in training, and its test images."""

    def __init__(self, plan: Plan, params: Params, index: int, trial: int) -> None:
        self.plan = plan
        self._names = names_from(f"{plan.study_name}/trial-{trial:03d}/fold-{index}")
        self.estimator = clone(plan.estimator)
        self._steps = self._train(params, *plan.splits[index])
        self._test: tuple = ()
        self.step = 0
        self.scores: dict[str, float] | None = None
        self.error: str | None = None
        self.score_error: str | None = None
        self.fit_time = self.score_time = 0.0
        self.chooses_epoch = False

    def _train(
        self, params: Params, train: np.ndarray, test: np.ndarray
    ) -> Generator[int, None, None]:
        # Here and not before: what a function draws may not go together.
        plan, estimator = self.plan, self.estimator
        estimator.set_params(**clone(params, safe=False))
        self.chooses_epoch = bool(getattr(estimator, "early_stopping", False))
        X, y = _safe_split(estimator, plan.X, plan.y, train)
        self._test = _safe_split(estimator, plan.X, plan.y, test, train)
        self._score_params = _check_method_params(plan.X, plan.score_params, test)
        fit_params = _check_method_params(plan.X, plan.fit_params, train)
        yield from train_by_steps(estimator, X, y, fit_params)

    def advance(self) -> bool:
        """Train a step, if there is one left, and score; tells whether there was."""
        start = time.perf_counter()
        try:
            with fits_named(self._names):
                goes_on = next(self._steps, None) is not None
        except Exception:  # a fit may raise anything
            if self.plan.error_score == "raise":
                raise
            self.error, self.scores = format_exc(), None
            return False
        finally:
            self.fit_time += time.perf_counter() - start
        # At the end it may have changed once more: gone back to the epoch that it
        # chose itself, or taken the statistics of BatchNorm anew.
        self._score()
        self.step += goes_on
        return goes_on

    def _score(self) -> None:
        start = time.perf_counter()
        plan = self.plan
        if plan.by_epoch:
            self.estimator._note_history()  # a scorer may look at it
        given = (self.estimator, *self._test, plan.scorer, self._score_params)
        # Several scores tell of one that fails by themselves.
        several = isinstance(plan.scorer, _MultimetricScorer)
        try:
            scores = _score(*given, plan.error_score if several else "raise")
        except Exception:  # a scorer may raise anything
            if plan.error_score == "raise":
                raise
            self.score_error, scores = format_exc(), plan.error_score
            warnings.warn(
                f"Scoring failed; the score is {scores}:\n{self.score_error}",
                UserWarning,
                stacklevel=2,
            )
        self.scores = scores if isinstance(scores, dict) else {"score": scores}
        self.score_time += time.perf_counter() - start

    @property
    def horizon(self) -> int:
        """Epochs that its training is laid out for."""
        return int(self.estimator.net_.max_epochs)

    def close(self) -> None:
        """End the training, and let go of images and network."""
        try:
            self._steps.close()
        except Exception:  # a callback that is told of the end may raise anything
            if self.plan.error_score == "raise":
                raise
            warnings.warn(
                f"A fit could not be ended as it should:\n{format_exc()}",
                UserWarning,
                stacklevel=2,
            )
        finally:
            self._test = ()
            del self._steps, self.estimator


@dataclass
class Trial:
    """A trial on its way: its folds, and what it has been worth so far."""

    plan: Plan
    trial: optuna.trial.Trial
    folds: list[Fold] = field(default_factory=list)
    best: tuple[float, int | None, list] = (-math.inf, None, [])
    announce: bool = False  # how long the search may take, after the first step
    to_the_end: bool = False  # whatever the pruner says

    def run(self, params: Params) -> dict[str, Any]:
        """Train until the end, or until it is pruned or fails; tell its result."""
        state = "complete"
        with ExitStack() as stack:
            rungs = self._rungs_by_epoch if self.plan.by_epoch else self._rungs_by_fold
            steps = stack.enter_context(closing(rungs(params, stack)))
            for step, last in enumerate(steps, start=1):
                mean = self._mean()
                if self.announce and step == 1:
                    self._announce()
                if step == 1 and all(fold.score_error for fold in self.folds):
                    # It will not be different at the end.
                    self.folds[0].error = self.folds[0].score_error
                    state = "fail"
                    break
                if math.isnan(mean):
                    # A score may be undefined at first; a fit fails for good.
                    if self._failed() or not self.plan.by_epoch:
                        break
                    continue
                self.trial.report(mean, step)
                if last:
                    continue
                self._note(mean, step)
                if not self.to_the_end and self.trial.should_prune():
                    state = "pruned"
                    break
        return self._result(state)

    def _rungs_by_epoch(
        self, params: Params, stack: ExitStack
    ) -> Generator[bool, None, None]:
        """Train all folds an epoch at a time; tells whether it was the last."""
        for index in range(len(self.plan.splits)):
            self._open(params, index, stack)
        running = self.folds
        while running := [fold for fold in running if fold.advance()]:
            if running[0].step == 1:
                horizon = max(fold.horizon for fold in running)
                self.trial.set_user_attr(HORIZON, horizon)
            yield all(fold.step >= fold.horizon for fold in running)

    def _rungs_by_fold(
        self, params: Params, stack: ExitStack
    ) -> Generator[bool, None, None]:
        """Fit fold by fold; tells whether it was the last."""
        n_splits = len(self.plan.splits)
        self.trial.set_user_attr(HORIZON, n_splits)
        self.trial.set_user_attr(BY_FOLD, True)
        for index in range(n_splits):
            with ExitStack() as own:
                self._open(params, index, own).advance()
            yield index == n_splits - 1

    def _open(self, params: Params, index: int, stack: ExitStack) -> Fold:
        fold = Fold(self.plan, params, index, self.trial.number)
        stack.enter_context(closing(fold))
        self.folds.append(fold)
        return fold

    def _announce(self) -> None:
        """Print about how long it may take, going by the first epoch or fold."""
        plan, n_splits = self.plan, len(self.plan.splits)
        left = plan.n_trials - position(self.trial.study, self.trial.number)
        step = sum(fold.fit_time + fold.score_time for fold in self.folds)
        seconds = step * self.trial.user_attrs[HORIZON] * left / plan.n_jobs
        print(
            f"{left} trials of {n_splits} folds may take about {_duration(seconds)} "
            f"without pruning{_memory(plan.n_jobs)}.",
            flush=True,  # workers keep what goes into a file
        )

    def _failed(self) -> bool:
        return any(fold.error for fold in self.folds)

    def _mean(self) -> float:
        values = [self.plan.value(fold.scores) for fold in self.folds]
        return float(np.mean(values)) if values else math.nan

    def _note(self, mean: float, step: int) -> None:
        # Of equal ones the latest: the rate falls towards the end.
        if mean >= self.best[0]:
            self.best = (mean, step, [fold.scores for fold in self.folds])

    def undrawn(self, error: str) -> dict[str, Any]:
        """Result of a trial that has no parameters."""
        return self._result("fail") | {"error": error, "undrawn": True}

    def _result(self, state: str) -> dict[str, Any]:
        """What the study keeps, as JSON."""
        last = value = self._mean()
        epoch = None
        scores = [fold.scores for fold in self.folds]
        goes_back = self.plan.by_epoch and not any(f.chooses_epoch for f in self.folds)
        if math.isnan(value) and goes_back and not self._failed() and self.best[1]:
            value, epoch, scores = self.best
        elif math.isnan(value) or not any(scores):
            state = "fail"
        elif self.plan.by_epoch and state == "pruned":
            epoch = self.folds[0].step
        elif goes_back:
            epoch = max(fold.step for fold in self.folds)
            if self.best[0] > value and not self._failed():
                value, epoch, scores = self.best
        open_ = [None] * (len(self.plan.splits) - len(self.folds))
        names = dict.fromkeys(name for row in scores if row for name in row)
        if len(names) > 1 and any(row and "score" not in row for row in scores):
            names.pop("score", None)  # of a scorer of several that failed
        return {
            "state": state,
            "value": _json(value),
            "last": _json(last),  # at the end, as a search by whole fits has it
            "scores": {
                name: [
                    _json((row or {}).get(name, self.plan.error_score))
                    for row in scores
                ]
                + open_
                for name in names
            },
            "fit_time": [fold.fit_time for fold in self.folds] + open_,
            "score_time": [fold.score_time for fold in self.folds] + open_,
            "by_epoch": self.plan.by_epoch,
            "n_epochs": epoch,
            "error": next((fold.error for fold in self.folds if fold.error), None),
        }


def _json(score: float | None) -> float | None:
    """NaN is not JSON, which dashboards in a browser read."""
    return None if score is None or math.isnan(score) else float(score)


def _duration(seconds: float) -> str:
    """Tell a time to one digit: the first epoch knows no more."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds > 1.5 * unit:
            return f"{float(f'{seconds / unit:.1g}'):g} {name}"
    return f"{float(f'{seconds:.1g}'):g} s"


def _memory(n_jobs: int) -> str:
    """What this process has taken at most, where the system tells: all folds train."""
    try:
        import resource
    except ImportError:  # Windows
        return ""
    unit = 1 if sys.platform == "darwin" else 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    where = f" in each of {n_jobs} processes" if n_jobs > 1 else ""
    return f", and {used / 1e9:.1f} GB of memory{where}"


def deal_gpus(plan: Plan, process: int) -> Plan:
    """Let each process train on a GPU of its own, where there are several."""
    names = [
        name
        for name, value in plan.estimator.get_params(deep=True).items()
        if name.split("__")[-1] == "device" and value == "auto"
    ]
    if plan.n_jobs == 1 or not names:
        return plan
    import torch

    if (n_gpus := torch.cuda.device_count()) < 2:
        return plan
    device = dict.fromkeys(names, f"cuda:{process % n_gpus}")
    return replace(plan, estimator=clone(plan.estimator).set_params(**device))


def run_trials(plan: Plan, process: int = 0) -> None:
    """Run trials until the study has as many as planned, or time is up."""
    plan, storage = deal_gpus(plan, process), open_storage(plan.storage)
    with quiet_optuna(), at_work() as search, ExitStack() as stack:
        stack.callback(disconnect, storage)
        study = optuna.load_study(
            study_name=plan.study_name,
            storage=storage,
            sampler=make_sampler(plan.sampler, plan.seed, plan.n_jobs),
            pruner=EarlyPruner() if plan.pruner is None else plan.pruner,
        )
        let_stop(study)
        while time.time() < plan.deadline:
            bury_lost_trials(study)
            if len(ours(study)) >= plan.n_trials:
                return
            has_result = _run_trial(plan, study, search)
            # A sampler may have been through its grid, and a scoring never work.
            if has_stopped(study) or (has_result and is_hopeless(study)):
                return


def _run_trial(plan: Plan, study: optuna.study.Study, search: str) -> bool:
    """Begin a trial and end it; tells whether it has a result."""
    trial = begin_trial(study, search)
    try:
        # Another process may have begun the last one at the same moment.
        at = position(study, trial.number)
        announce = plan.verbose > 0 and at == plan.n_before
        if at >= plan.n_trials:
            _forget(study, trial.number)
            return False
        with signs_of_life(trial):
            result, same = _undertake(plan, study, trial, announce)
            if result is not None:
                trial.set_user_attr(RESULT, result)
        tell(study, trial.number, result)
    except optuna.exceptions.UpdateFinishedTrialError:
        warnings.warn(
            f"trial {trial.number} was given up: another process had not heard of this "
            "one for ten minutes, as of a machine asleep. It is done anew.",
            UserWarning,
            stacklevel=2,
        )
        return False
    except BaseException:
        # It is as if it had never begun: the same call does it again.
        _forget(study, trial.number)
        raise
    if plan.verbose and result is not None:
        before = None if same is None else position(study, same.number)
        _report(plan, at, trial.params, result, before)
    return result is not None


def _undertake(
    plan: Plan, study: optuna.study.Study, trial: optuna.trial.Trial, announce: bool
) -> tuple[dict[str, Any] | None, optuna.trial.FrozenTrial | None]:
    """Result of a trial, None where others take its place, and which it repeats."""
    asked_for = "fixed_params" in trial_of(study, trial.number).system_attrs
    error = None
    try:
        params = plan.space.suggest(trial)
    except optuna.exceptions.OptunaError:  # the storage
        raise
    except Exception:  # a function of the user's may raise anything
        if plan.error_score == "raise":
            raise
        params, error = {}, format_exc()
    if INSTEAD in trial.user_attrs and _is_taken(study, trial):
        return None, None
    same = _the_same(plan, study, trial, params, asked_for, error)
    if same is None and error:
        return Trial(plan, trial).undrawn(error), None
    if same is None or _may_go_on(study, same, asked_for):
        to_the_end = same is not None and asked_for
        run = Trial(plan, trial, announce=announce, to_the_end=to_the_end).run
        return run(params), None
    if isinstance(study.sampler, SeededSampler) and trial.params and not asked_for:
        if instead := _instead(plan, study, trial):
            study.enqueue_trial(instead, user_attrs={INSTEAD: True})
        else:
            study.stop()
        return None, None
    if HORIZON in same.user_attrs:
        trial.set_user_attr(HORIZON, same.user_attrs[HORIZON])
    return same.user_attrs[RESULT], same


def _is_taken(study: optuna.study.Study, trial: optuna.trial.Trial) -> bool:
    """Whether another process has chosen the same instead, and was faster."""
    faster = (optuna.trial.TrialState.RUNNING, optuna.trial.TrialState.COMPLETE)
    return any(
        point(t.params) == point(trial.params)
        for t in study.get_trials(deepcopy=False, states=faster)
        if t.number < trial.number
    )


def _the_same(
    plan: Plan,
    study: optuna.study.Study,
    trial: optuna.trial.Trial,
    params: Params,
    asked_for: bool,
    error: str | None,
) -> optuna.trial.FrozenTrial | None:
    """An earlier trial of the same parameters, where its result would be the same."""
    same = [t for t in finished(study) if t.params == trial.params]
    if asked_for:  # what failed may have been chance
        same = [t for t in same if t.state != optuna.trial.TrialState.FAIL]
    if error:  # there are no parameters to set
        return same[0] if same else None
    # A function may go by more than it draws.
    drawn = [t for t in same if "undrawn" not in t.user_attrs[RESULT]]
    same = [t for t in drawn if repr(plan.space.restore(t)) == repr(params)]
    if not same:
        return None
    estimator = clone(plan.estimator).set_params(**clone(params, safe=False))
    for name, value in estimator.get_params(deep=True).items():
        if name.split("__")[-1] == "random_state" and not isinstance(value, Integral):
            return None
    # Of those that were pruned the first was looked at; others repeat it.
    return next((t for t in same if t.state.name == "COMPLETE"), same[0])


def _may_go_on(
    study: optuna.study.Study, trial: optuna.trial.FrozenTrial, asked_for: bool
) -> bool:
    """Whether a trial was pruned that would not be now, or that is wanted even so."""
    pruned = trial.state == optuna.trial.TrialState.PRUNED
    # Others may write to the trial that they are asked about.
    if not (pruned and isinstance(study.pruner, EarlyPruner)):
        return False
    return asked_for or not study.pruner.prune(study, trial)


def _instead(
    plan: Plan, study: optuna.study.Study, trial: optuna.trial.Trial
) -> Params | None:
    """Parameters that no trial has had; then those pruned; then those that failed."""
    begun = {
        point(t.system_attrs.get("fixed_params", t.params))
        for t in study.get_trials(deepcopy=False)
        if not t.state.is_finished() and t.number != trial.number
    }
    done = finished(study)
    known = begun | {point(t.params) for t in done}
    seed = seed_at(plan.seed, position(study, trial.number))
    apart = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    for _ in range(_DRAWS):
        drawn = apart.ask()
        try:
            plan.space.suggest(drawn)
        except Exception:  # what cannot be drawn is not worth a trial
            continue
        if drawn.params and point(drawn.params) not in known:
            return drawn.params
    pruned = isinstance(study.pruner, EarlyPruner) and study.pruner.by_promise(done)
    again = [t.params for t in [*(pruned or ()), *_failed_once(done)]]
    return next((params for params in again if point(params) not in begun), None)


def _failed_once(trials: list[optuna.trial.FrozenTrial]) -> list:
    """Trials whose fits or scores failed, which may have been chance, and no more."""
    points = [point(t.params) for t in trials if t.state.name != "PRUNED"]
    return [
        t
        for t in trials
        if t.state == optuna.trial.TrialState.FAIL
        and "undrawn" not in t.user_attrs[RESULT]
        and points.count(point(t.params)) == 1
    ]


def _forget(study: optuna.study.Study, number: int) -> None:
    trial = trial_of(study, number)
    if not trial.state.is_finished() and RESULT not in trial.user_attrs:
        tell(study, number, None)
        enqueue_again(study, trial)


def _report(
    plan: Plan, at: int, drawn: Params, result: dict[str, Any], same_as: int | None
) -> None:
    score = "failed" if result["value"] is None else f"{result['value']:.4f}"
    seconds = sum(t for t in result["fit_time"] + result["score_time"] if t)
    cost = f"{seconds:.1f} s" if same_as is None else f"as trial {same_as}"
    print(
        f"trial {at:3d} of {plan.n_trials}: {score} "
        f"({result['state']}, {cost}) {drawn}",
        flush=True,
    )
