"""Who was scored, which cases were hardest, how the model was trained, with what."""

import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from skmedimg.evaluation._cases import Cases
from skmedimg.evaluation._report import Plot, Row, Section, Table, point
from skmedimg.metrics import HistoryDisplay

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_HARDEST = 10
_PACKAGES = ("skmedimg", "numpy", "scipy", "scikit-learn", "pandas", "matplotlib")


def cohort(
    cases: Cases,
    labels: np.ndarray,
    partitions: Mapping[str, tuple[np.ndarray, np.ndarray | None]],
    excluded: Mapping[str, int] | None,
) -> Section:
    """Numbers of images, units and patients, by partition and by subgroup.

    Parameters
    ----------
    cases : Cases
        What is evaluated.
    labels : ndarray of shape (n,) or (n, n_labels)
        Of the images evaluated.
    partitions : mapping of str to (labels, patients or None)
        Others that were given, such as the training images of a baseline.
    excluded : mapping of str to int, or None
        Images left out, by reason; None where nobody said.

    Returns
    -------
    Section
        "Patients and cases".
    """
    sentences = [f"Evaluated: {cases.counts()}."]
    if excluded is None:
        sentences.append("How many images were excluded before is not known here.")
    elif sum(excluded.values()):
        listed = ", ".join(f"{n} {reason}" for reason, n in excluded.items() if n)
        total = sum(excluded.values())
        before = int(cases.n_images.sum()) + total
        sentences.insert(0, f"Of {before} images, {total} were left out: {listed}.")
    else:
        sentences.append("No image was excluded.")
    rows = [
        Row("Images", point(cases.n_images.sum())),
        Row(f"{cases.noun.capitalize()}s scored", point(len(cases.y))),
    ]
    if cases.groups is not None:
        rows.append(Row("Patients", point(len(np.unique(cases.groups)))))
    tables = [_partition_table(cases, labels, partitions)]
    if cases.subgroups is not None:
        tables.append(_level_table(cases))
    return Section("Patients and cases", sentences, tables, rows=rows)


def _partition_table(
    cases: Cases, labels: np.ndarray, partitions: Mapping[str, Any]
) -> Table:
    import pandas as pd

    parts = {"Evaluation": (labels, cases.groups), **partitions}
    rows = [_partition(name, y, groups, cases) for name, (y, groups) in parts.items()]
    return Table("Images by partition", pd.DataFrame(rows))


def _partition(
    name: str, y: np.ndarray, groups: np.ndarray | None, cases: Cases
) -> dict[str, str]:
    n_patients = "–" if groups is None else str(len(np.unique(groups)))
    row = {"Partition": name, "Images": str(len(y)), "Patients": n_patients}
    for i, (label, shown_as) in enumerate(
        zip(cases.classes, cases.class_names, strict=True)
    ):
        own = y[:, i] == 1 if cases.kind == "multilabel" else y == label
        row[shown_as] = f"{own.sum()} ({own.mean():.1%})"
    return row


def _level_table(cases: Cases) -> Table:
    import pandas as pd

    entries = []
    for name, chosen in cases.parts():
        entry = {"Characteristic": name}
        entry[f"All {cases.noun}s"] = f"{chosen.sum()} ({chosen.mean():.1%})"
        if cases.kind != "multilabel":
            entry |= _by_class(cases, chosen)
        entries.append(entry)
    return Table("Characteristics of the cases evaluated", pd.DataFrame(entries))


def _by_class(cases: Cases, chosen: np.ndarray) -> dict[str, str]:
    shares = {}
    for name in cases.class_names:
        side = cases.named_y == name
        n = int((chosen & side).sum())
        shares[name] = f"{n} ({n / max(side.sum(), 1):.1%})"
    return shares


def hardest_cases(cases: Cases, images: Any) -> Section:
    """The cases that the model is furthest from.

    Parameters
    ----------
    cases : Cases
        What is evaluated, two classes or more.
    images : array-like of n images or None
        Shown where given.

    Returns
    -------
    Section
        Identifiers, classes, probabilities.
    """
    import pandas as pd

    own = _probability_of_truth(cases)
    order = np.argsort(own, kind="stable")[:_HARDEST]
    frame = pd.DataFrame(
        {
            cases.noun.capitalize(): [str(name) for name in cases.name[order]],
            "Truth": cases.named_y[order],
            "Probability of the truth": [f"{p:.3f}" for p in own[order]],
        }
    )
    plots = [] if images is None else [_thumbnails(cases, order, images)]
    sentences = [
        "The cases whose true class has the lowest probability. An image is named by "
        "its unit, by the names given or by its row, counted from 0: see to it that no "
        "name tells who a patient is."
    ]
    table = Table("Furthest from the truth first", frame)
    return Section("Hardest cases", sentences, [table], plots)


def _probability_of_truth(cases: Cases) -> np.ndarray:
    if cases.kind == "binary":
        return np.where(cases.y, cases.score, 1 - cases.score)
    column = {label: i for i, label in enumerate(cases.classes)}
    places = [column[label] for label in cases.y.tolist()]
    return cases.score[np.arange(len(cases.y)), places]


def _thumbnails(cases: Cases, order: np.ndarray, images: Any) -> Plot:
    shown = [np.asarray(images[int(row)]) for row in cases.first_image[order]]

    def draw(ax: "Axes") -> None:
        ax.set_axis_off()
        for place, (image, name) in enumerate(
            zip(shown, cases.name[order], strict=True)
        ):
            row, column = divmod(place, 4)
            box = (column / 4 + 0.01, 1 - (row + 1) / 3 + 0.01, 0.23, 0.26)
            inner = ax.inset_axes(box)
            inner.imshow(_flat(image), cmap="gray")
            inner.set_title(str(name), fontsize=8, pad=2)
            inner.set_axis_off()

    return Plot(
        "hardest-cases",
        "First image of each of the hardest cases.",
        f"The images of the {len(shown)} hardest cases, hardest first.",
        draw,
    )


def _flat(image: np.ndarray) -> np.ndarray:
    """An image as it can be shown: the middle slice, channels last, no lone channel."""
    while image.ndim > 2 and image.shape[-1] not in (1, 3, 4):
        if image.shape[0] in (1, 3):
            image = np.moveaxis(image, 0, -1)
        else:
            image = image[len(image) // 2]
    if image.ndim == 4:
        image = image[len(image) // 2]
    return image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image


def training_history(estimator: Any) -> Section | None:
    """Loss by epoch, where the estimator has kept it."""
    steps = getattr(estimator, "steps", None)
    fitted = steps[-1][1] if steps else estimator
    history: pd.DataFrame | None = getattr(fitted, "history_", None)
    if history is None:
        return None
    last = history.iloc[-1]
    seconds = float(history["seconds"].sum())
    sentence = (
        f"{len(history)} epochs in {seconds:.0f} s; training loss "
        f"{last['train_loss']:.3f} in the last."
    )

    def draw(ax: "Axes") -> None:
        HistoryDisplay.from_estimator(fitted, ax=ax)

    plot = Plot(
        "training-history",
        "Loss by epoch.",
        f"Loss by epoch, {len(history)} epochs, from "
        f"{history['train_loss'].iloc[0]:.3f} to {last['train_loss']:.3f}.",
        draw,
    )
    rows = [Row("Epochs", point(len(history)))]
    return Section("Training history", [sentence], plots=[plot], rows=rows)


def versions() -> dict[str, str]:
    """Versions of what took part; torch only where it was loaded."""
    packages = [*_PACKAGES, *(["torch"] if "torch" in sys.modules else [])]
    found = {"Python": platform.python_version(), "System": platform.platform()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            import skmedimg

            # Run from a checkout that is not installed.
            found[name] = (
                skmedimg.__version__ if name == "skmedimg" else "not installed"
            )
    return found


def provenance(estimator: Any, random_state: Any, n_bootstrap: int) -> Section:
    """Exact versions, seeds and parameters."""
    import pandas as pd

    found = versions()
    found["Seed of this report"] = str(random_state)
    found["Bootstrap replicates"] = str(n_bootstrap)
    if estimator is not None:
        found["Model"] = model_text(estimator)
        seed = getattr(estimator, "random_state", None)
        found["Seed of the model"] = "none given" if seed is None else str(seed)
    frame = pd.DataFrame({"What": list(found), "Value": list(found.values())})
    return Section(
        "Versions and seeds", tables=[Table("Software, seeds, parameters", frame)]
    )


def model_text(estimator: Any) -> str:
    """The estimator with the parameters that are not defaults, on one line."""
    return " ".join(repr(estimator).split())
