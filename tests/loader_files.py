"""Images in folders of classes, and a table of them, for the tests of loaders."""

import numpy as np
import pandas as pd
from PIL import Image


def save(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 6), value, np.uint8)).save(path)
    return path


def class_folders(tmp_path):
    """Two classes, three patients, and what else lies about."""
    root = tmp_path / "xrays"
    for i in range(6):
        kind = ("normal", "pneumonia")[i % 2]
        save(root / kind / "deeper" / f"P{i // 2}_{i}.png", i)
    (root / "normal" / "notes.txt").write_text("about")
    (root / "normal" / ".DS_Store").write_bytes(b"\0")
    (root / "README.md").write_text("about")
    return root


def table_of_images():
    """A row an image of `class_folders`, with labels of several kinds."""
    names = [f"P{i // 2}_{i}" for i in range(6)]
    return pd.DataFrame(
        {
            "file": [f"{name}.png" for name in names],
            "stem": names,
            "finding": ["normal", "pneumonia"] * 3,
            "code": [0, 1] * 3,
            "score": np.linspace(0, 1.5, 6),
            "effusion": [1, 0, 0, 0, 1, 1],
            "mass": [0, 0, 1, 1, 0, 1],
            "list": ["a|b", "a", "none", "b", "b", "a"],
            "patient": [name[:2] for name in names],
        }
    )


def values(images):
    return images.to_numpy()[:, 0, 0].tolist()
