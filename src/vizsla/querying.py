"""`query_the_oracle`, the seed article's function, for any network and loop of your own."""

from __future__ import annotations

import secrets

import numpy as np
import torch
from torch import nn
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

    Args:    model: any module from a batch of the data set's images to (b, C) logits. It is put into evaluation
             mode for the query, and each part of it back into the mode it was in.
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
    """(n, C) softmax outputs of a module that returns logits, for these images in this order."""
    loader = DataLoader(Subset(dataset, ids.tolist()), batch_size=batch_size, num_workers=num_workers)
    modes = {part: part.training for part in model.modules()}  # a part may be frozen in evaluation mode
    model.eval()
    try:
        outputs = [model(images.to(device)) for images, _, _ in loader]
    finally:
        for part, mode in modes.items():
            part.training = mode
    logits = torch.cat(outputs)
    if logits.ndim != 2:
        raise BadArray(f"the model must return (images, classes) logits, not shape {tuple(logits.shape)}.")
    return logits.double().softmax(dim=1).cpu().numpy()
