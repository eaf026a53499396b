"""Images to learn from and to test on.

>>> from skmedimg.datasets import make_lesions
>>> data = make_lesions(n_patients=10, random_state=0)
>>> sorted(data)
['DESCR', 'groups', 'images', 'masks', 'target', 'target_names']
"""

from skmedimg.datasets._idc import fetch_idc
from skmedimg.datasets._local import (
    load_dicom,
    load_image_folder,
    load_image_table,
    load_nifti,
)
from skmedimg.datasets._medmnist import fetch_medmnist, load_medmnist
from skmedimg.datasets._synthetic import make_lesions, make_segmentation

__all__ = [
    "fetch_idc",
    "fetch_medmnist",
    "load_dicom",
    "load_image_folder",
    "load_image_table",
    "load_medmnist",
    "load_nifti",
    "make_lesions",
    "make_segmentation",
]
