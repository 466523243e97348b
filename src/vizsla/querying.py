"""`query_the_oracle`, the seed article's function, for any network and loop of your own."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from vizsla.data.indexed import IndexedDataset
from vizsla.errors import BadArray
from vizsla.learner import ActiveLearner
from vizsla.oracle import FilenameOracle, TerminalOracle
from vizsla.types import Batch


def query_the_oracle(
    model: nn.Module,
    device: torch.device | str,
    dataset: IndexedDataset,
    query_size: int = 10,
    query_strategy: str = "random",
    interactive: bool = True,
    pool_size: int = 0,
    batch_size: int = 128,
    num_workers: int = 4,
    *,
    seed: int | None = None,
) -> Batch:
    """Choose `query_size` images with your model and have them labelled in `dataset`.

    Args:    model: any module from a batch of the data set's images to (b, C) logits, in the order of the data set's
             classes; alone, as `.logits` or under "logits", or first in a tuple. It is put into evaluation mode for
             the query, and each part of it back into the mode it was in.
             interactive: ask the person at the terminal or notebook; else read the class folders.
             pool_size: look at a random sub-pool of that size; 0 looks at everything.
             seed: makes the query repeatable; default: another one each time, as in the article.
    Returns: the images asked about, in the order asked.
    Raises:  NotEnoughImages, UnknownName, NoLabel, each with its mend.
    """

    def predict(pool: IndexedDataset, ids: np.ndarray) -> np.ndarray:
        return predict_probs(model, device, pool, ids, batch_size=batch_size, num_workers=num_workers)

    learner = ActiveLearner(
        dataset,
        predict=predict,
        strategy=query_strategy,
        oracle=TerminalOracle(dataset.classes) if interactive else FilenameOracle(),
        pool_size=pool_size,
        seed=secrets.randbits(32) if seed is None else seed,
    )
    return learner.query(query_size)


@torch.inference_mode()
def predict_probs(
    model: nn.Module,
    device: torch.device | str,
    dataset: IndexedDataset,
    ids: np.ndarray,
    *,
    batch_size: int = 128,
    num_workers: int = 0,
) -> np.ndarray:
    """(n, C) softmax outputs of a module that returns logits, for these images in this order.

    Raises: BadArray where it returns something else, or NaN.
    """
    loader = DataLoader(Subset(dataset, ids.tolist()), batch_size=batch_size, num_workers=num_workers)
    modes = {part: part.training for part in model.modules()}  # a part may be frozen in evaluation mode
    model.eval()
    try:
        outputs = [logits_of(model(images.to(device))) for images, _, _ in loader]
    finally:
        for part, mode in modes.items():
            part.training = mode
    probs = torch.cat(outputs).double().softmax(dim=1).cpu().numpy() if outputs else np.empty((0, 0))
    bad = np.flatnonzero(np.isnan(probs).any(axis=1))
    if len(bad) and len(probs) == len(ids):
        name = dataset.file_name(int(ids[bad[0]]))
        raise BadArray(f"the model returned NaN or infinity for {name}. Look for a diverged training run.")
    return probs


def logits_of(output: Any) -> Float[Tensor, "b c"]:
    """The logits in what a network returned: a tensor, what has them as `.logits` or under that name, or the first of
    several tensors.

    Raises: BadArray where there are none.
    """
    found = output
    if isinstance(output, Mapping) and "logits" in output:
        found = output["logits"]
    elif hasattr(output, "logits"):
        found = output.logits
    elif isinstance(output, tuple | list) and output and isinstance(output[0], Tensor):
        found = output[0]
    if not isinstance(found, Tensor):
        kind = "None" if output is None else f"a {type(output).__name__}"
        raise BadArray(f"the model must return (images, classes) logits, not {kind}. Return them alone.")
    if found.ndim != 2:
        raise BadArray(f"the model must return (images, classes) logits, not shape {tuple(found.shape)}.")
    return found
