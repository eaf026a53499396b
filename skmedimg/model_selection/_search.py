"""Search over hyper-parameters by cross-validation, with Optuna's samplers."""

import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import joblib
import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.base import _fit_context, clone, is_classifier
from sklearn.model_selection import GroupKFold, check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
)
from sklearn.utils.validation import (
    _check_method_params,
    _num_samples,
    check_random_state,
    has_fit_parameter,
    indexable,
)

from skmedimg._fit_names import fits_named, names_from
from skmedimg._sequence import ImageSequence
from skmedimg.images import is_lazy
from skmedimg.model_selection._grouped import (
    MultilabelStratifiedGroupKFold,
    are_indicators,
)
from skmedimg.model_selection._patients import (
    PatientKFold,
    patients_of,
    wants_groups,
)
from skmedimg.model_selection._space import last_step

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from skmedimg.model_selection._trial_runner import Plan


class OptunaSearchCV(BaseSearchCV):
    """Search that ends bad trials early and survives a crash.

    scikit-learn's search contract, with three things more. Parameters are proposed by a
    sampler of Optuna that learns from the trials before. The folds of a trial of an
    image estimator train together, an epoch at a time, and a trial whose mean score is
    behind ends there; other estimators are looked at after a few of their folds. The
    study may be kept in a file or a database: the same call goes on after a crash, and
    several processes or machines work on one study.

    Parameters
    ----------
    estimator : estimator
        What is searched; each trial works on clones. scikit-learn's callbacks that are
        set on an image estimator are not called; its `callbacks` are.
    param_distributions : dict, callable or "default"
        By parameter, a distribution of `optuna.distributions`, a frozen one of
        `scipy.stats` or a list; or a function of an `optuna.trial.Trial` that gives a
        dictionary of parameters, so that some are there only where others ask for
        them; it is called again for finished trials, and may go by what it draws, and
        the number of the trial, alone. "default" is `default_search_space`.
    n_trials : int, default=20
        Trials of the study in all, those of earlier calls and other processes, and
        those that failed, included. The search ends before where the first three all
        fail with one error, or where nothing is left to try.
    timeout : float, default=None
        Seconds after which this call begins no further trial.
    cv : int, splitter or iterable, default=None
        As in scikit-learn; where a number of folds (None: 5) meets images that know
        their patients (`groups`, or ``X.groups``), no patient is on both sides, and
        where it meets several labels an image, each of them is stratified. Splitters
        that go by groups get ``X.groups``.
    scoring : str, callable, list, tuple or dict, default=None
        As in scikit-learn.
    refit : bool, str or callable, default=True
        As in scikit-learn. With several scores, that of this name is what the search
        maximises; with False or a callable it is the first.
    sampler : optuna sampler or callable, default=None
        What proposes parameters; None is Optuna's tree-structured Parzen estimator,
        after five random trials. A callable, such as a class of `optuna.samplers`,
        makes one a trial from ``seed``, which keeps the promise of `random_state`; a
        sampler itself is taken as it is.
    pruner : optuna pruner, default=None
        What ends trials early. None lets the best third, by the mean score so far, go
        on after an eighteenth, a sixth and half of the course;
        ``optuna.pruners.NopPruner()`` ends none.
    storage : str, path or optuna storage, default=None
        Where the study is kept: a database ("sqlite:///study.db",
        "postgresql://user@host/base"), the path of a journal file, or None for the
        memory of this process. A process counts as dead once it is gone, or, on another
        machine, after ten minutes of silence; its trial is then done anew.
    study_name : str, default=None
        Name in the storage. None makes one of the data, the folds, the estimator and
        the space, so that each outer fold of a nested cross-validation has its own.
    n_jobs : int, default=None
        Processes that work on the study side by side; None is one, unless
        `joblib.parallel_config` says otherwise.
    random_state : int, RandomState instance or None, default=None
        Seed of the sampler. With an int, and one process, a search that was killed and
        called again ends as if it had not been, provided that the fits are seeded too.
    error_score : "raise" or float, default=nan
        Score of a fold whose fit fails. NaN ends the trial there, and it ranks last.
    verbose : int, default=0
        1 prints about how long it may take and how much memory, after the first epoch,
        and a line a trial.

    Attributes
    ----------
    cv_results_ : dict of str to ndarray of shape (n_trials,)
        As of scikit-learn's searches, a row a finished trial of the study. Beside them
        `state` ("complete", "pruned" or "fail") and `n_epochs`, the epochs after which
        the scores of the row were taken. A pruned trial has the scores of its last
        rung, and ranks behind all complete ones.
    best_estimator_ : estimator
        Fitted on all images with `best_params_`, up to the epoch that was best.
    best_params_ : dict
        Parameters of the best trial.
    best_score_ : float
        Its mean score.
    best_index_ : int
        Its row in `cv_results_`.
    scorer_ : callable or dict
        Scorers.
    n_splits_ : int
        Number of folds.
    refit_time_ : float
        Seconds of the refit.
    multimetric_ : bool
        Whether there are several scores.
    study_ : optuna.study.Study
        The study, for Optuna's plots and `SearchDisplay`.

    See Also
    --------
    sklearn.model_selection.GridSearchCV : Every combination, each to its end.
    default_search_space : A space to begin with.
    SearchDisplay : Draws the course of a search.

    Notes
    -----
    The score of a trial is that of its best epoch, by the mean over the folds; the
    learning rate follows the whole course all the same. The refit stops at the same
    share of its own course, so that it needs no validation images. Before the end of
    the course an image estimator is scored with the statistics of BatchNorm as they
    stand in training, which ranks images all but alike. An estimator with
    ``early_stopping=True`` chooses its epochs itself, by images that it holds out of
    each fold; its score is then that of what it chose, and the refit chooses again.

    Where all that draws at random is seeded (each ``random_state`` of the estimator is
    an int), parameters that are known already are not fitted again: others take their
    place, drawn at random. Where a thousand draws give none, those that the default
    pruner ended are trained to the end, the most promising first, and those that failed
    have one more try. Where none is left either, the search ends with a warning. Among
    `study_.trials` what was drawn in vain is failed. A sampler that is passed as an
    instance goes its own way.

    Best of many scores, the best score is too good an estimate. Nested cross-validation
    gives an honest one, ``cross_val_score(search, X, y, cv=PatientKFold(5))``, with the
    images as an `skmedimg.io.ImageSequence` that carries the patients through.

    Several machines share a study where each runs the same script, with the URL of one
    database as `storage`; ``optuna-dashboard URL`` shows it meanwhile. Trials that
    still run elsewhere are not waited for: call once more to take them in. A pickled
    search holds the URL as it was given: keep passwords out of it (PGPASSFILE).

    All folds of a trial are in training at once: memory holds as many copies of the
    training images, unless they are an `skmedimg.io.ImageSequence`.

    References
    ----------
    Akiba et al., "Optuna: a next-generation hyperparameter optimization framework",
    KDD 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from scipy.stats import loguniform
    >>> from skmedimg.model_selection import OptunaSearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> search = OptunaSearchCV(
    ...     LogisticRegression(max_iter=500),
    ...     {"C": loguniform(1e-3, 1e2)},
    ...     n_trials=4,
    ...     random_state=0,
    ... )
    >>> search.fit(X, y).cv_results_["state"].shape
    (4,)
    >>> float(search.best_score_) > 0.9
    True
    """

    _parameter_constraints: ClassVar[dict] = {
        **{
            name: constraint
            for name, constraint in BaseSearchCV._parameter_constraints.items()
            if name not in ("pre_dispatch", "return_train_score")
        },
        "param_distributions": "no_validation",
        "n_trials": [Interval(Integral, 1, None, closed="left")],
        "timeout": [Interval(Real, 0, None, closed="neither"), None],
        "sampler": "no_validation",
        "pruner": "no_validation",
        "storage": "no_validation",
        "study_name": [str, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_trials: int = 20,
        timeout: float | None = None,
        cv: Any = None,
        scoring: Any = None,
        refit: Any = True,
        sampler: Any = None,
        pruner: Any = None,
        storage: Any = None,
        study_name: str | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        error_score: Any = np.nan,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.param_distributions = param_distributions
        self.n_trials = n_trials
        self.timeout = timeout
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.sampler = sampler
        self.pruner = pruner
        self.storage = storage
        self.study_name = study_name
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.error_score = error_score
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, **params: Any) -> "OptunaSearchCV":
        """Search, and refit the best.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            Images, or whatever the estimator takes.
        y : array-like of shape (n,) or (n, n_labels), default=None
            Labels.
        **params : object
            Passed to the fits, those of length n fold by fold. ``groups`` goes to the
            splitter and to every fit that takes it.

        Returns
        -------
        self
            The fitted search.

        Raises
        ------
        ValueError
            If the space does not fit the estimator, if starting weights cannot be read,
            if the study is of another search, or if no trial was completed; the study
            stays as it is.
        ConnectionError
            If the storage cannot be reached, or not be written.
        """
        from skmedimg.model_selection._study import quiet_optuna, told_of_storage

        if getattr(self, "_skl_callbacks", None):
            raise NotImplementedError(
                "OptunaSearchCV does not call scikit-learn's callbacks: leave out "
                "set_callbacks. Those in the `callbacks` of an image estimator, of "
                "skorch, are called."
            )
        scorer, _ = self._get_scorers()
        if is_lazy(X) and not hasattr(X, "iloc") and not issparse(X):
            X = ImageSequence.from_array(X)
        X, y = indexable(X, y)
        params = _check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        splits = self._split(X, y, params.get("groups"), routed.splitter.split)
        with (
            quiet_optuna(),
            told_of_storage(),
            self._plan(X, y, splits, scorer, routed) as plan,
        ):
            self._run(plan)
            trials = self._read(plan)
        self.n_splits_ = len(splits)
        self.scorer_ = getattr(scorer, "_scorers", scorer)
        if self.refit:
            self._refit(plan, trials[self.best_index_])
        return self

    # -- steps of fit ------------------------------------------------------------------

    def _get_routed_params_for_fit(self, params: dict[str, Any]) -> Bunch:
        routed = super()._get_routed_params_for_fit(params)
        groups = params.get("groups")
        # With metadata routing on, the estimator has asked for them or not.
        if groups is None or get_config()["enable_metadata_routing"]:
            return routed
        if where := _groups_parameter(self.estimator):
            routed.estimator.fit = {where: groups, **routed.estimator.fit}
        return routed

    def _split(
        self, X: Any, y: Any, groups: Any, split_params: dict[str, Any]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        n, cv = _num_samples(X), self.cv
        patients = patients_of(X, groups, n)
        classifies = is_classifier(self.estimator)
        if cv is None or isinstance(cv, Integral):
            n_splits = 5 if cv is None else int(cv)
            if classifies and are_indicators(y):
                each = np.arange(n) if patients is None else patients
                cv = MultilabelStratifiedGroupKFold(n_splits)
                return list(cv.split(X, y, each))
            if patients is not None:
                grouped = PatientKFold if classifies else GroupKFold
                return list(grouped(n_splits).split(X, y, patients))
        cv = check_cv(cv, y, classifier=classifies)
        if patients is not None and wants_groups(cv):
            split_params = {**split_params, "groups": patients}
        splits = list(cv.split(X, y, **split_params))
        if not splits:
            raise ValueError(
                f"cv={self.cv!r} gives no split: there is no fold to test."
            )
        if patients is not None:
            _warn_of_shared(patients, splits)
        return splits

    @contextmanager
    def _plan(
        self, X: Any, y: Any, splits: list, scorer: Any, routed: Bunch
    ) -> Iterator["Plan"]:
        """Make what the processes need, and the study that they share."""
        from skmedimg.model_selection._about import about_search
        from skmedimg.model_selection._sampling import check_sampling
        from skmedimg.model_selection._space import make_space
        from skmedimg.model_selection._study import finished, open_study, shared_storage
        from skmedimg.model_selection._trial_runner import Plan

        check_sampling(self.sampler, self.pruner)
        self._check_checkpoint()
        space = make_space(self.param_distributions, self.estimator, X)
        besides = [
            routed.estimator.fit,
            routed.scorer.score,
            getattr(X, "groups", None),
        ]
        about = about_search(self, space, X, y, splits, besides)
        name = self.study_name or f"search-{joblib.hash(about)[:12]}"
        n_jobs = effective_n_jobs(self.n_jobs)
        with shared_storage(self.storage, n_jobs) as (opened, storage):
            n_before = len(finished(open_study(opened, name, about)))
            yield Plan(
                estimator=clone(self.estimator),
                X=X,
                y=y,
                splits=splits,
                scorer=scorer,
                refit=self.refit,
                fit_params=routed.estimator.fit,
                score_params=routed.scorer.score,
                error_score=self.error_score,
                space=space,
                storage=storage,
                study_name=name,
                n_trials=self.n_trials,
                deadline=time.time() + (self.timeout or math.inf),
                sampler=self.sampler,
                pruner=deepcopy(self.pruner),  # some note what they are given
                seed=_seed(self.random_state),
                n_jobs=n_jobs,
                verbose=self.verbose,
                n_before=n_before,
            )

    def _check_checkpoint(self) -> None:
        """Find out before the trials whether the refit can be kept."""
        _, last = last_step(self.estimator)
        folder = getattr(last, "checkpoint", None) if hasattr(last, "_epochs") else None
        if self.refit and folder:
            from skmedimg._checkpoint import check_folder

            check_folder(folder, last.random_state)

    def _run(self, plan: "Plan") -> None:
        from skmedimg.model_selection._trial_runner import run_trials

        if plan.n_jobs == 1:
            run_trials(plan)
        else:
            Parallel(n_jobs=plan.n_jobs)(
                delayed(run_trials)(plan, process) for process in range(plan.n_jobs)
            )

    def _read(self, plan: "Plan") -> list["FrozenTrial"]:
        """Set what the study tells, and which trial is the best."""
        from optuna.samplers import BaseSampler

        from skmedimg.model_selection._study import (
            finished,
            has_nothing_left,
            read_results,
            read_study,
        )

        self.study_ = read_study(
            plan.storage, plan.study_name, keep=self.storage is not None
        )
        trials = finished(self.study_)
        # A sampler that is passed may have an end of its own.
        ended = (
            not isinstance(plan.sampler, BaseSampler) and time.time() < plan.deadline
        )
        if ended and has_nothing_left(self.study_, plan.n_trials):
            warnings.warn(
                f"The search ended after {len(trials)} of n_trials={plan.n_trials} "
                "trials: its sampler has nothing left to propose.",
                UserWarning,
                stacklevel=3,
            )
        results = read_results(
            trials, plan.space.restore, len(plan.splits), plan.error_score
        )
        names = [n.removeprefix("mean_test_") for n in results if "mean_test_" in n]
        several = isinstance(self.scoring, list | tuple | dict)
        self.multimetric_ = several or names != ["score"]
        if self.multimetric_:
            self._check_refit_for_multimetric(names)
        self.cv_results_ = results
        if not self.refit and self.multimetric_:
            return trials
        metric = self.refit if self.multimetric_ else "score"
        self.best_index_ = int(self._select_best_index(self.refit, metric, results))
        self.best_params_ = results["params"][self.best_index_]
        if not callable(self.refit):
            self.best_score_ = results[f"mean_test_{metric}"][self.best_index_]
        return trials

    def _refit(self, plan: "Plan", trial: "FrozenTrial") -> None:
        """Fit the best on all images, up to the epoch that was best."""
        from skmedimg.model_selection._study import HORIZON, RESULT
        from skmedimg.model_selection._trial_runner import train_by_steps

        best = clone(self.best_params_, safe=False)
        self.best_estimator_ = clone(plan.estimator).set_params(**best)
        epochs = trial.user_attrs[RESULT]["n_epochs"]
        complete = trial.user_attrs[RESULT]["state"] == "complete"
        # More images may be given fewer epochs.
        how: dict[str, Any] = {}
        if epochs and complete:
            how["stop_at"] = epochs / trial.user_attrs[HORIZON]
        if folder := getattr(self.best_estimator_, "checkpoint", None):
            how["folder"] = folder
        start = time.time()
        with fits_named(names_from(f"{plan.study_name}/refit")):
            for _ in train_by_steps(
                self.best_estimator_, plan.X, plan.y, plan.fit_params, **how
            ):
                pass
        self.refit_time_ = time.time() - start
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_

    def __getstate__(self) -> dict[str, Any]:
        """With a copy of the study: predictions need no database."""
        state = super().__getstate__()
        if "study_" not in state:
            return state
        from skmedimg.model_selection._study import in_memory, told_of_storage

        with told_of_storage():
            return state | {"study_": in_memory(state["study_"])}

    def get_metadata_routing(self) -> MetadataRouter:
        """Tell which metadata go where.

        Returns
        -------
        MetadataRouter
            As of scikit-learn's searches; a number of folds asks for groups as well,
            because it keeps patients apart.
        """
        cv = self.cv
        if cv is None or isinstance(cv, Integral):
            cv = PatientKFold()
        scorer, _ = self._get_scorers()
        to_fit = MethodMapping().add(caller="fit", callee="fit")
        to_split = MethodMapping().add(caller="fit", callee="split")
        to_score = MethodMapping().add(caller="score", callee="score")
        to_score.add(caller="fit", callee="score")
        router = MetadataRouter(owner=self)
        router.add(estimator=self.estimator, method_mapping=to_fit)
        router.add(scorer=scorer, method_mapping=to_score)
        router.add(splitter=cv, method_mapping=to_split)
        return router


def _warn_of_shared(patients: np.ndarray, splits: list) -> None:
    shared = [np.isin(patients[test], patients[train]).mean() for train, test in splits]
    if max(shared) > 0:
        warnings.warn(
            f"up to {max(shared):.0%} of the test images of a fold are of patients "
            "that are in training as well: the scores are too good. Pass a number of "
            "folds, or skmedimg.model_selection.PatientKFold.",
            UserWarning,
            stacklevel=5,
        )


def _groups_parameter(estimator: Any) -> str | None:
    """Name by which the fit of an estimator takes groups, through pipelines too."""
    prefix, last = last_step(estimator)
    return f"{prefix}groups" if has_fit_parameter(last, "groups") else None


def _seed(random_state: Any) -> int:
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))
