"""Deep learning on medical images, behind scikit-learn's fit and predict.

>>> import skmedimg
>>> "CNNImageClassifier" in dir(skmedimg)
True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skmedimg.classifier import CNNImageClassifier

__version__ = "0.1.0.dev0"

# Importing the package must stay instant: torch, pandas and matplotlib are loaded with
# the name that needs them (PEP 562).
_LAZY = {"CNNImageClassifier": "skmedimg.classifier"}

__all__ = ["CNNImageClassifier", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
