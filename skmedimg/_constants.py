"""Small tensors that every step needs, made once a device."""

from functools import lru_cache

import torch


@lru_cache(maxsize=256)
def constant(
    values: tuple[float, ...], dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """`values` as a tensor that nobody may change.

    Made in each step, it would have the host wait for the GPU each time.
    """
    # Made while predicting, it is to serve training too.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
