"""Images from files, and from memory or disk as one lazy array.

>>> import numpy as np
>>> from skmedimg.io import ImageSequence
>>> X = ImageSequence.from_array(np.zeros((6, 8, 8)), groups=list("aabbcc"))
>>> X[[0, 5]]
ImageSequence(shape=(2, 8, 8), dtype=float64, 2 groups)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skmedimg._cache_cleaning import clear_cache, list_cache
    from skmedimg._image_meta import ImageMeta
    from skmedimg._read_image import read_image
    from skmedimg._scan import scan_dicom
    from skmedimg._sequence import ImageSequence
    from skmedimg._series import read_dicom_series
    from skmedimg._windows import list_windows

# Who wraps an array need not wait for pydicom, nor for pandas (PEP 562).
_LAZY = {
    "ImageMeta": "skmedimg._image_meta",
    "ImageSequence": "skmedimg._sequence",
    "clear_cache": "skmedimg._cache_cleaning",
    "list_cache": "skmedimg._cache_cleaning",
    "list_windows": "skmedimg._windows",
    "read_dicom_series": "skmedimg._series",
    "read_image": "skmedimg._read_image",
    "scan_dicom": "skmedimg._scan",
}

__all__ = [
    "ImageMeta",
    "ImageSequence",
    "clear_cache",
    "list_cache",
    "list_windows",
    "read_dicom_series",
    "read_image",
    "scan_dicom",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
