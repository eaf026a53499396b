"""Whether the process that runs a trial is alive, on this machine or another."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial

# Names of what a trial keeps of its process.
OWNER = "owner"
_ALIVE = "alive_at"

_BEAT = 60.0  # seconds between signs of life
_SILENCE = 600.0  # seconds after which a process on another machine counts as dead
# Searches that this process is at work on.
_at_work: set[str] = set()


@contextmanager
def at_work() -> Iterator[str]:
    """Name of a search, whose trials are lost once this is left."""
    name = uuid4().hex
    _at_work.add(name)
    try:
        yield name
    finally:
        _at_work.remove(name)


def this_process(search: str) -> dict[str, Any]:
    """What tells a search of this process from any other, on any machine."""
    pid = os.getpid()
    return {
        "machine": _machine(),
        "pid": pid,
        "started": _started(pid),
        "search": search,
        "at": time.time(),
    }


def claim_of(search: str) -> str:
    """Under which name a search claims an enqueued trial, which others claim too."""
    return f"{OWNER} {search}"


def owners(trial: FrozenTrial) -> list[dict[str, Any]]:
    """Whose trial it is; all who claim it until one has put down its name."""
    attrs = trial.user_attrs
    if OWNER in attrs:
        return [attrs[OWNER]]
    return [attrs[name] for name in attrs if name.startswith(claim_of(""))]


def is_alive(trial: FrozenTrial) -> bool:
    """Whether the process that runs a trial is alive, as far as this one can tell."""
    sign = trial.user_attrs.get(_ALIVE, 0.0)
    return any(_is_alive(owner, sign) for owner in owners(trial))


def _is_alive(owner: dict[str, Any], sign: float) -> bool:
    if owner["machine"] == _machine() and os.name == "posix":
        pid, started = owner["pid"], owner["started"]
        if pid == os.getpid() and started == _started(pid):
            return owner["search"] in _at_work
        return _runs(pid) and _started(pid) == started
    return time.time() - max(owner["at"], sign) < _SILENCE


def _machine() -> str:
    try:
        # Machines may share a name, and containers that as well, but no numbers of
        # processes.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot = space = ""
    return f"{socket.gethostname()} {boot} {space}".strip()


def _started(pid: int) -> str | None:
    """When a process began, where the system tells: numbers are used again."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    # Killed, and not yet waited for by its parent.
    return stat.rpartition(")")[2].split()[0] != "Z"


@contextmanager
def signs_of_life(trial: optuna.trial.Trial) -> Iterator[None]:
    """Let processes on other machines know that this trial is being worked on."""
    if isinstance(trial.study._storage, InMemoryStorage):
        yield
        return
    end = Event()

    def beat() -> None:
        # That others have taken it for dead is told by the next report.
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            while not end.wait(_BEAT):
                # A database that is being restarted hears of the next beat.
                with suppress(optuna.exceptions.StorageInternalError, OSError):
                    trial.set_user_attr(_ALIVE, time.time())

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
