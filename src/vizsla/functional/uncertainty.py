"""How unsure a classifier is of each image, from one probability row per image.

Every score is higher for images that should be labelled sooner. Rows are n images, columns c classes; a row
sums to one. Torch tensors on any device and of any float type, or numpy arrays, give tensors back.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Probs = Float[Tensor, "n c"] | Float[np.ndarray, "n c"]


def least_confidence(probs: Probs) -> Float[Tensor, " n"]:
    """One minus the probability of the most likely class.

    Args:    probs: (n, c) class probabilities.
    Returns: (n,) from 0 (certain) to 1 − 1/c (uniform).
    Source:  Lewis & Gale 1994, arXiv:cmp-lg/9407020; Settles 2009, §3.1.

    >>> least_confidence(torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.7, 0.2]]))
    tensor([0.5000, 0.3000])
    """
    return 1 - torch.as_tensor(probs).amax(dim=1)


def margin(probs: Probs) -> Float[Tensor, " n"]:
    """Second largest minus largest probability: how nearly two classes tie.

    Args:    probs: (n, c) class probabilities, c ≥ 2.
    Returns: (n,) from −1 (certain) to 0 (a tie for the first place).
    Source:  Scheffer, Decomain & Wrobel 2001, doi:10.1007/3-540-44816-0_31.

    >>> margin(torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.7, 0.2]]))
    tensor([-0.2000, -0.5000])
    """
    top = torch.as_tensor(probs).topk(2, dim=1).values
    return top[:, 1] - top[:, 0]
