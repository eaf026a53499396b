"""A checkpoint is taken up by the same fit alone, code of the user's own included."""

import sys
import textwrap

import pytest
from skorch.callbacks import Callback

from skmedimg.architectures import SimpleCNN

AUGMENTATION = """
    RUNS = 1
    STRENGTH, KIND, SHIFT = 1.0, "plus", (1, 2)
    GAINS = [1.0, 2.0]

    def shifted(x):
        return x + SHIFT[0]

    def augmented(x):
        def once(x):
            return shifted(x) * STRENGTH * GAINS[0]
        return once(x) if KIND == "plus" else x
"""
SLOTS = """
    class Gain:
        __slots__ = ("gain",)

        def __init__(self, gain):
            self.gain = gain

        def __call__(self, x):
            return x * self.gain

    augmented = Gain(1.0)
"""
ARCHITECTURE = """
    from torch import nn

    class Base(nn.Module):
        width = 4

        def features(self, x):
            return x.relu()

    class Net(Base):
        def __init__(self, in_channels, n_outputs):
            super().__init__()
            self.conv = nn.Conv2d(in_channels, self.width, 3)
            self.head = nn.Linear(self.width, n_outputs)

        @staticmethod
        def pooled(x):
            return x.mean((2, 3))

        def forward(self, x):
            return self.head(self.pooled(self.features(self.conv(x))))

    def built(in_channels, n_outputs, spatial_dims):
        return Net(in_channels, n_outputs)
"""


HIDDEN = """
    from functools import lru_cache

    class Scaled:
        __slots__ = "__gain"

        def __init__(self, gain):
            self.__gain = gain

        @property
        def gain(self):
            return self.__gain + 1

        def __call__(self, x):
            return once(x * self.gain)

    @lru_cache
    def once(x):
        return x * 2

    augmented = Scaled(1.0)
"""


class Interrupting(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt


@pytest.fixture
def n_files(images, tiny, tmp_path, monkeypatch):
    """Interrupt a fit with parts of a script; tells how many checkpoints there are."""

    def interrupted(script, callbacks=(), **parts):
        path = tmp_path / "script.py"
        path.write_text(textwrap.dedent(script))
        module = type(sys)("script")
        monkeypatch.setitem(sys.modules, "script", module)
        exec(compile(path.read_text(), path, "exec"), vars(module))
        params = {"architecture": SimpleCNN()}
        params |= {name: getattr(module, part) for name, part in parts.items()}
        made = [getattr(module, name) for name in callbacks]
        clf = tiny(max_epochs=3, checkpoint=tmp_path, **params)
        with pytest.raises(KeyboardInterrupt):
            clf.set_params(callbacks=[*made, Interrupting()]).fit(*images)
        return len(list(tmp_path.glob("*.checkpoint")))

    return interrupted


@pytest.mark.parametrize(
    ("source", "given", "before", "after"),
    [
        (AUGMENTATION, "augmented", "SHIFT = 1.0", "SHIFT = 0.5"),
        (AUGMENTATION, "augmented", '"plus", (', '"times", ('),
        (AUGMENTATION, "augmented", "(1, 2)", "(2, 2)"),
        (AUGMENTATION, "augmented", "x + SHIFT", "x - SHIFT"),
        (AUGMENTATION, "augmented", "[1.0", "[0.5"),
        (SLOTS, "augmented", "Gain(1.0)", "Gain(0.5)"),
        (HIDDEN, "augmented", "Scaled(1.0)", "Scaled(0.5)"),
        (HIDDEN, "augmented", "__gain + 1", "__gain + 2"),
        (HIDDEN, "augmented", "x * 2", "x * 3"),
        (ARCHITECTURE, "built", "(self.conv(x))", "(2 * self.conv(x))"),
        (ARCHITECTURE, "built", "x.relu()", "x.tanh()"),
        (ARCHITECTURE, "built", "x.mean((2, 3))", "x.amax((2, 3))"),
    ],
)
def test_edited_code_is_another_fit(source, given, before, after, n_files):
    part = "augmentation" if given == "augmented" else "architecture"
    assert n_files(source, **{part: given}) == 1
    assert n_files(source, **{part: given}) == 1
    other = source.replace(before, after)
    assert other != source
    assert n_files(other, **{part: given}) == 2


def test_what_changes_nothing(n_files):
    assert n_files(AUGMENTATION, augmentation="augmented") == 1
    moved = "\n\n" + AUGMENTATION.replace("RUNS = 1", "RUNS = 2")
    assert n_files(moved, augmentation="augmented") == 1


def test_functions_that_name_one_another(n_files):
    script = """
        def one(x, depth=2):
            return other(x, depth - 1) if depth else x

        def other(x, depth):
            return one(x, depth)
    """
    for _ in range(2):
        assert n_files(script, augmentation="one") == 1


def test_logger_that_holds_what_differs_in_every_run(n_files):
    script = """
        from skorch.callbacks import Callback

        STARTED = "monday"

        class Logger(Callback):
            def on_train_begin(self, net, **kwargs):
                self.path = STARTED

        def log(name, estimator):
            return Logger() if STARTED else None
    """
    for started in ("monday", "tuesday"):
        script = script.replace("monday", started)
        assert n_files(script, callbacks=["log", "Logger"]) == 1
