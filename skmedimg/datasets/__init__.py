"""Images to learn from and to test on.

>>> from skmedimg.datasets import make_lesions
>>> data = make_lesions(n_patients=10, random_state=0)
>>> sorted(data)
['DESCR', 'groups', 'images', 'masks', 'target', 'target_names']
"""

from skmedimg.datasets._synthetic import make_lesions

__all__ = ["make_lesions"]
