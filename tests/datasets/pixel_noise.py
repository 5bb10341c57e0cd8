"""Images of which nothing is known but their seed."""

import numpy as np
import torch


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Pixels, uint8 of any shape; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator).numpy()
