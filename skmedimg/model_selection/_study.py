"""The study of a search: where it is kept, whose trials are lost, what it found."""

import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import optuna
from optuna.samplers import GridSampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import get_lock_file
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import rankdata
from sklearn.exceptions import FitFailedWarning

from skmedimg.model_selection._liveness import (
    OWNER,
    claim_of,
    is_alive,
    owners,
    this_process,
)

# Names of what a study of ours keeps beside Optuna's own.
_MARK = "skmedimg"
RESULT = "result"
HORIZON = "horizon"
BY_FOLD = "by_fold"  # and not by epoch
INSTEAD = "instead"  # of parameters that were known
# Names of the parts of what makes two searches the same that cannot be read.
DATA = "data"
CODE = "code"
VALUES = "set of values"
_DIFFERS = {
    DATA: (
        "images, labels, patients, weights or folds are not the same (a cv that "
        "shuffles needs an int as its random_state; in a nested cross-validation leave "
        "study_name out)"
    ),
    CODE: (
        "functions or classes of your own, in the space, the estimator or the scoring, "
        "or what they name, have changed, or Python's version"
    ),
    VALUES: (
        "what a parameter of the estimator holds, or an object in a list of the space, "
        "is not the same, though it reads alike (weights of a network that is made "
        "without torch.manual_seed never are; what changes as it is used, make anew)"
    ),
}

_JOURNAL = b'{"op_code"'  # how a journal of Optuna begins
_MEMORY = (None, "", ":memory:")  # SQLite's names of it
_HOPELESS = 3  # so many first trials that all fail alike end a search


class _Quiet:
    """Optuna's verbosity, while searches run in any number of threads."""

    lock = Lock()
    n_inside = 0
    before = 0


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Leave Optuna's announcements out; its warnings stay."""
    with _Quiet.lock:
        if _Quiet.n_inside == 0:
            _Quiet.before = optuna.logging.get_verbosity()
            optuna.logging.set_verbosity(max(_Quiet.before, optuna.logging.WARNING))
        _Quiet.n_inside += 1
    try:
        yield
    finally:
        with _Quiet.lock:
            _Quiet.n_inside -= 1
            if _Quiet.n_inside == 0:
                optuna.logging.set_verbosity(_Quiet.before)


@contextmanager
def told_of_storage() -> Iterator[None]:
    """Say of a storage that fails what it is, and what to do."""
    try:
        yield
    except optuna.exceptions.StorageInternalError as error:
        raise ConnectionError(
            f"the storage cannot be read or written "
            f"({getattr(error.__cause__, 'orig', error)}): see that it is there, and "
            "who may write there. The same call goes on."
        ) from error


# -- where it is kept ------------------------------------------------------------------


def open_storage(storage: Any) -> BaseStorage:
    """Storage of a study, from a URL, the path of a journal file, or itself.

    Raises
    ------
    ConnectionError
        If it cannot be reached.
    """
    if storage is None:
        return InMemoryStorage()
    if isinstance(storage, BaseStorage):
        return storage
    if not isinstance(storage, str | os.PathLike):
        raise TypeError(
            f"storage={storage!r} must be the URL of a database, the path of a journal "
            "file, a storage of Optuna or None."
        )
    if _is_url(storage):
        return _open_database(str(storage))
    return _open_journal(Path(storage))


def _is_url(storage: str | os.PathLike) -> bool:
    return isinstance(storage, str) and (
        "://" in storage or storage.startswith(("sqlite:", "postgresql:"))
    )


def _open_journal(path: Path) -> BaseStorage:
    try:
        backend = JournalFileBackend(str(path))
        _mend_journal(path, backend)
        journal = JournalStorage(backend)
        journal.get_all_studies()
        return journal
    except OSError as error:
        raise ConnectionError(
            f"storage={str(path)!r} cannot be written ({error}): see that its folder "
            "exists, or pass another path."
        ) from error
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"storage={str(path)!r} is a file of something else than a journal of "
            f"Optuna ({error}): pass another path, or the URL of a database, such as "
            "'sqlite:///study.db'."
        ) from error


def _mend_journal(path: Path, backend: JournalFileBackend) -> None:
    """Take a last line away that a crash or a full disk has cut short.

    Optuna reads past it, and then writes the next one behind it: nothing after that
    could be read again.
    """
    with path.open("rb") as file:
        begins = file.read(len(_JOURNAL))
    if begins[:1] not in (b"{", b""):
        raise ValueError("its lines are no JSON objects")
    if not _JOURNAL.startswith(begins):  # it is not ours to mend
        return
    with get_lock_file(backend._lock), path.open("rb+") as file:
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def _open_database(url: str) -> BaseStorage:
    import sqlalchemy

    try:
        parsed = sqlalchemy.make_url(url)
    except sqlalchemy.exc.ArgumentError as error:
        raise ValueError(
            f"storage={url!r} is no URL of a database ({error}): pass, for example, "
            "'sqlite:///study.db'."
        ) from error
    if parsed.get_backend_name() == "sqlite" and parsed.database in _MEMORY:
        return InMemoryStorage()  # it would be gone with the first connection
    shown = parsed.render_as_string(hide_password=True)
    options: dict[str, Any] = {"pool_pre_ping": True}
    if parsed.get_backend_name() == "sqlite":
        # Several processes wait for one another rather than fail.
        options["connect_args"] = {"timeout": 60}
    elif parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    full = parsed.render_as_string(hide_password=False)
    for attempt in range(3):
        try:
            return RDBStorage(full, engine_kwargs=options)
        except ImportError as error:
            raise ImportError(
                f"storage={shown!r} needs a driver ({error}); for PostgreSQL, "
                "pip install 'skmedimg[postgres]'."
            ) from error
        except sqlalchemy.exc.SQLAlchemyError as error:
            # Of two processes that make the tables at the same time, one must repeat.
            if attempt == 2:
                raise ConnectionError(
                    f"storage={shown!r} cannot be reached: {error.args[0]} Start the "
                    "server, or correct the URL."
                ) from error
            time.sleep(0.5)
    raise AssertionError("unreachable")


def disconnect(storage: BaseStorage) -> None:
    """Close the connections to a database; the next access opens them again."""
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


@contextmanager
def shared_storage(storage: Any, n_jobs: int) -> Iterator[tuple[BaseStorage, Any]]:
    """Storage of a study, and what tells other processes of it.

    Raises
    ------
    ValueError
        If the processes would each have a copy of the storage.
    """
    with ExitStack() as stack:
        if storage is None and n_jobs > 1:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            storage = Path(folder) / "study.log"
        opened = open_storage(storage)
        stack.callback(disconnect, opened)
        if n_jobs > 1 and isinstance(opened, InMemoryStorage):
            raise ValueError(
                f"n_jobs={n_jobs} processes cannot share storage={storage!r}: pass "
                "storage=None, a file or a database."
            )
        yield opened, opened if n_jobs == 1 else _from_anywhere(storage)


def _from_anywhere(storage: Any) -> Any:
    """A storage as a process in another folder finds it: workers are used again."""
    if not isinstance(storage, str | os.PathLike):
        return storage
    if not _is_url(storage):
        return Path(storage).absolute()
    import sqlalchemy

    url = sqlalchemy.make_url(str(storage))
    path = url.database or ""
    if url.get_backend_name() != "sqlite" or path.startswith("file:"):
        return storage
    return url.set(database=os.path.abspath(path)).render_as_string(hide_password=False)


def open_study(
    storage: BaseStorage, name: str, about: dict[str, Any]
) -> optuna.study.Study:
    """Make a study, or go on with it where it is one of the same search.

    Parameters
    ----------
    storage : optuna storage
        Where it is kept.
    name : str
        Its name.
    about : dict of str to JSON
        What makes two searches the same.

    Raises
    ------
    ValueError
        If there is a study of this name of another search.
    """
    study = _find_or_make(storage, name)
    _check_same(study, about)
    if _MARK not in study.user_attrs:
        study.set_user_attr(_MARK, about)
    return study


def _find_or_make(storage: BaseStorage, name: str) -> optuna.study.Study:
    # Not by `load_if_exists` alone: where a process was killed while it made the
    # tables, a database may take two studies of one name.
    if name in optuna.get_all_study_names(storage):
        return optuna.load_study(storage=storage, study_name=name)
    return optuna.create_study(
        storage=storage, study_name=name, direction="maximize", load_if_exists=True
    )


def _check_same(study: optuna.study.Study, about: dict[str, Any]) -> None:
    """Refuse a study of something else."""
    name = study.study_name
    elsewhere = f"Pass another study_name than {name!r}; the study is as it was."
    if study.directions != [optuna.study.StudyDirection.MAXIMIZE]:
        raise ValueError(
            "the study goes in another direction: scores of scikit-learn are "
            f"maximised, here it is {[d.name for d in study.directions]}. {elsewhere}"
        )
    known = study.user_attrs.get(_MARK)
    if known is None:
        if any(t.state != TrialState.WAITING for t in study.get_trials(deepcopy=False)):
            raise ValueError(
                f"the study has trials that no OptunaSearchCV made. {elsewhere}"
            )
        return
    for part, value in about.items():
        if known.get(part) != value:
            differs = _DIFFERS.get(part, f"there it is {known.get(part)}, here {value}")
            raise ValueError(f"the study is of another {part}: {differs}. {elsewhere}")


def read_study(storage: Any, name: str, *, keep: bool) -> optuna.study.Study:
    """A study by name; a copy in memory where its storage is not to be kept."""
    study = optuna.load_study(study_name=name, storage=open_storage(storage))
    return study if keep else in_memory(study)


# -- whose trials ----------------------------------------------------------------------


def is_lost(trial: FrozenTrial) -> bool:
    """Whether a trial ended without a result: its process was killed."""
    return trial.state == TrialState.FAIL and RESULT not in trial.user_attrs


def ours(study: optuna.study.Study) -> list[FrozenTrial]:
    """Trials begun by searches and not lost, by number."""
    return [
        t
        # A pruner may be given a study that shows a part of them.
        for t in study._storage.get_all_trials(study._study_id, deepcopy=False)
        if owners(t) and t.state != TrialState.WAITING and not is_lost(t)
    ]


def finished(study: optuna.study.Study) -> list[FrozenTrial]:
    """Trials of searches that have a result, by number."""
    return [trial for trial in ours(study) if trial.state.is_finished()]


def position(study: optuna.study.Study, number: int) -> int:
    """How many trials of searches come before one, without those that were lost."""
    return sum(trial.number < number for trial in ours(study))


def begin_trial(study: optuna.study.Study, search: str) -> optuna.trial.Trial:
    """Begin a trial that tells from its first moment whose it is.

    `Study.ask` would make it first and let us tell then: a process killed in between
    would leave a trial that nobody can tell from one that runs elsewhere.
    """
    storage, me = study._storage, this_process(search)
    for waiting in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        # Enqueued; of several processes that claim it one gets it.
        number = waiting._trial_id
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            storage.set_trial_user_attr(number, claim_of(search), me)
            if storage.set_trial_state_values(number, TrialState.RUNNING):
                storage.set_trial_user_attr(number, OWNER, me)
                return optuna.trial.Trial(study, number)
    begun = optuna.create_trial(state=TrialState.RUNNING, user_attrs={OWNER: me})
    return optuna.trial.Trial(
        study, storage.create_new_trial(study._study_id, template_trial=begun)
    )


def bury_lost_trials(study: optuna.study.Study) -> None:
    """End the trials of processes that are dead, each exactly once."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not owners(trial) or is_alive(trial):
            continue
        try:
            tell(study, trial.number, trial.user_attrs.get(RESULT))
            enqueue_again(study, trial)
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
            if trial_of(study, trial.number).state == TrialState.RUNNING:
                raise
            # Another process was faster.


def enqueue_again(study: optuna.study.Study, lost: FrozenTrial) -> None:
    """Let a trial that the user had asked for run once more."""
    asked_for = lost.system_attrs.get("fixed_params")
    if asked_for is not None and RESULT not in lost.user_attrs:
        kept = {k: v for k, v in lost.user_attrs.items() if k == INSTEAD}
        study.enqueue_trial(asked_for, user_attrs=kept)


def trial_of(study: optuna.study.Study, number: int) -> FrozenTrial:
    """Trial of a study by its number."""
    return study.get_trials(deepcopy=False)[number]


def tell(study: optuna.study.Study, number: int, result: dict[str, Any] | None) -> None:
    """End a trial as its result says; without one it is lost."""
    state = TrialState[result["state"].upper()] if result else TrialState.FAIL
    value = result["value"] if result and state == TrialState.COMPLETE else None
    trial = trial_of(study, number)
    if isinstance(study.sampler, GridSampler) and not trial.state.is_finished():
        # It takes each trial for a point that it has been to.
        if result is None or "grid_id" not in trial.system_attrs:
            for name, none in (("grid_id", -1), ("search_space", {})):
                study._storage.set_trial_system_attr(trial._trial_id, name, none)
    study.tell(number, value, state=state)


def let_stop(study: optuna.study.Study) -> None:
    """Let samplers end the search as in `Study.optimize`, which alone they may end."""
    study._thread_local.in_optimize_loop = True
    study._stop_flag = False


def has_stopped(study: optuna.study.Study) -> bool:
    """Whether the sampler has nothing more to propose."""
    return study._stop_flag


def has_nothing_left(study: optuna.study.Study, n_trials: int) -> bool:
    """Whether a search ended by itself before it had made all its trials."""
    return len(ours(study)) < n_trials and not is_hopeless(study)


# -- what it found ---------------------------------------------------------------------


def is_hopeless(study: optuna.study.Study) -> bool:
    """Whether there were trials, and all failed in the same way."""
    rows = [trial.user_attrs[RESULT] for trial in finished(study)]
    failed = all(row["state"] == "fail" and row["error"] for row in rows)
    alike = failed and len({_last_line(row["error"]) for row in rows}) == 1
    return len(rows) >= _HOPELESS and alike


def _last_line(error: str) -> str:
    return error.strip().splitlines()[-1]


def in_memory(study: optuna.study.Study) -> optuna.study.Study:
    """A study, or a copy where it is kept elsewhere."""
    if isinstance(study._storage, InMemoryStorage):
        return study
    name, copy = study.study_name, InMemoryStorage()
    with quiet_optuna():
        optuna.copy_study(
            from_study_name=name, from_storage=study._storage, to_storage=copy
        )
    return optuna.load_study(study_name=name, storage=copy)


def read_results(
    trials: Sequence[FrozenTrial],
    restore: Callable[[FrozenTrial], dict[str, Any]],
    n_splits: int,
    error_score: Any,
) -> dict[str, Any]:
    """Rebuild `cv_results_` from a study, the trials of all processes included.

    Parameters
    ----------
    trials : sequence of optuna trials
        That have a result.
    restore : callable
        Gives the parameters of the estimator in a trial.
    n_splits : int
        Number of folds.
    error_score : float
        Score of a fold whose fit failed.

    Returns
    -------
    dict of str to ndarray of shape (n_trials,)
        As of scikit-learn's searches, with `state` and `n_epochs` beside.
    """
    rows = [t.user_attrs[RESULT] for t in trials]
    complete = np.array([row["state"] == "complete" for row in rows], bool)
    pruned = np.array([row["state"] == "pruned" for row in rows], bool)
    _check_rows(rows, complete)
    results: dict[str, Any] = {}
    for time_name in ("fit_time", "score_time"):
        seconds = np.array([[np.nan if s is None else s for s in row[time_name]]
                            for row in rows])  # fmt: skip
        known = ~np.isnan(seconds).all(axis=1)
        for label, of in (("mean", np.nanmean), ("std", np.nanstd)):
            column = np.full(len(rows), np.nan)
            column[known] = of(seconds[known], axis=1)
            results[f"{label}_{time_name}"] = column
    params = [
        t.params if "undrawn" in row else restore(t)
        for t, row in zip(trials, rows, strict=True)
    ]
    results |= _columns(params)
    results["params"] = params
    names = {name: None for row in rows for name in row["scores"]}
    for name in names:
        scores = np.array([_scores(row, name, n_splits, error_score) for row in rows])
        results |= _summary(name, scores, complete, pruned)
    results["state"] = np.array([row["state"] for row in rows])
    epochs = [row["n_epochs"] for row in rows]
    results["n_epochs"] = np.ma.masked_array(
        [e or 0 for e in epochs], mask=[e is None for e in epochs]
    )
    return results


def _check_rows(rows: Sequence[dict[str, Any]], complete: np.ndarray) -> None:
    if not rows:
        raise ValueError(
            "no trial was finished: give timeout more seconds, or leave it out. Trials "
            "that still run in other processes are taken in by the next call."
        )
    errors = [row["error"] for row in rows if row["error"]]
    if complete.any():
        if errors:
            warnings.warn(
                f"{len(errors)} of {len(rows)} trials had fits that failed, and scored "
                f"error_score. error_score='raise' stops at the first. It was:\n"
                f"{errors[0]}",
                FitFailedWarning,
                stacklevel=5,
            )
        return
    if errors:
        raise ValueError(
            f"no trial was completed, and {len(errors)} of {len(rows)} failed, the "
            f"last with: {_last_line(errors[-1])} See whether the estimator, the "
            "scoring and the space fit the data. Once it is mended the same call goes "
            "on; as trials of earlier calls count, it may need a higher n_trials. The "
            f"last error in full:\n{errors[-1]}"
        )
    raise ValueError(
        f"no trial was completed: all {len(rows)} were pruned or scored NaN, or the "
        "scoring failed, as a warning says. Pass a pruner that lets some finish "
        "(optuna.pruners.NopPruner() all) or another scoring, and, with a storage, "
        f"another study_name or n_trials above {len(rows)}."
    )


def _columns(params: list[dict[str, Any]]) -> dict[str, np.ma.MaskedArray]:
    """A masked column for each parameter, as scikit-learn makes them."""
    columns = {}
    for name in dict.fromkeys(name for row in params for name in row):
        values = [row[name] for row in params if name in row]
        plain = all(isinstance(v, bool | int | float | np.number) for v in values)
        dtype = np.array(values).dtype if plain else np.dtype(object)
        column = np.ma.masked_all(len(params), dtype)
        for i, row in enumerate(params):
            if name in row:
                column[i] = row[name]
        columns[f"param_{name}"] = column
    return columns


def _scores(
    row: dict[str, Any], name: str, n_splits: int, error_score: Any
) -> list[float]:
    if name not in row["scores"]:  # all fits failed
        return [np.nan if error_score == "raise" else error_score] * n_splits
    return [np.nan if s is None else s for s in row["scores"][name]]


def _summary(
    name: str, scores: np.ndarray, complete: np.ndarray, pruned: np.ndarray
) -> dict[str, Any]:
    """Scores of the folds, their mean, and the rank: what was pruned comes last."""
    done = ~np.isnan(scores)
    n_done = done.sum(1)
    total = np.where(done, scores, 0.0).sum(1)
    mean = np.divide(total, n_done, out=np.full(len(scores), np.nan), where=n_done > 0)
    # A fold without a score counts where the trial was to have it.
    mean[~pruned & ~done.all(1)] = np.nan
    with np.errstate(invalid="ignore"):  # scores may be infinite
        spread = np.where(done, (scores - mean[:, None]) ** 2, 0.0).sum(1)
    std = np.sqrt(np.divide(spread, n_done, out=mean * np.nan, where=n_done > 0))
    ranked = complete & ~np.isnan(mean)
    rank = np.full(len(scores), ranked.sum() + 1, np.int32)
    rank[ranked] = rankdata(-mean[ranked], method="min")
    results: dict[str, Any] = {
        f"split{i}_test_{name}": scores[:, i] for i in range(scores.shape[1])
    }
    results[f"mean_test_{name}"] = mean
    results[f"std_test_{name}"] = std
    results[f"rank_test_{name}"] = rank
    return results
