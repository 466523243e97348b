"""Training the whole network, as the seed article does: SGD, a new loader each round, all labels so far."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from vizsla.data.images import load
from vizsla.data.indexed import IndexedDataset
from vizsla.errors import BadOption, UnreadableImage
from vizsla.models.backbones import Backbone, Transform
from vizsla.types import Progress

STOP_RULES = ("validation", "test", "loss", "epochs")


@dataclass(frozen=True)
class Schedule:
    """When a round of training ends, and the seed article's optimiser settings.

    | stop | a round trains … |
    | --- | --- |
    | `validation` | until the loss on a held-out fifth of the labels stops falling (`patience`); keeps the best |
    | `test` | while the accuracy on the test set rises: the seed's rule, which reads the test set |
    | `loss` | until the training loss has not fallen by 1% for `patience` epochs |
    | `epochs` | exactly `epochs` epochs |

    None goes beyond `max_epochs`.
    """

    stop: str = "validation"
    epochs: int = 10
    max_epochs: int = 50
    patience: int = 3
    batch_size: int = 32
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        if self.stop not in STOP_RULES:
            raise BadOption(f"no training stop rule named {self.stop!r}. Known: {', '.join(STOP_RULES)}.")
        if min(self.epochs, self.max_epochs, self.batch_size, self.patience) < 1:
            raise BadOption("epochs, max_epochs, patience and batch_size must be at least 1.")


class PixelSet:
    """Images of a data set as the network wants them, decoded when asked for."""

    def __init__(self, dataset: IndexedDataset, transform: Transform) -> None:
        self.dataset = dataset
        self.transform = transform

    def subset(self, ids: Int64[np.ndarray, " m"]) -> PixelSet:
        """Only these images, numbered anew."""
        return PixelSet(self.dataset.subset(ids), self.transform)

    @property
    def ids(self) -> Int64[np.ndarray, " n"]:
        """Images that can be read."""
        broken = self.dataset.unreadable
        return np.array(
            [i for i in range(len(self.dataset)) if self.dataset.file_name(i) not in broken], np.int64
        )

    def of(self, ids: Int64[np.ndarray, " m"]) -> Float[Tensor, "m 3 s s"]:
        """Normalised pixels; an image that broke since it was checked is a black one, left out from now on."""
        return self.transform.normalise(torch.from_numpy(np.stack([self._pixels(int(i)) for i in ids])))

    def _pixels(self, image: int) -> UInt8[np.ndarray, "3 s s"]:
        try:
            path = Path(self.dataset.image_filenames[image])
            return self.transform.pixels(load(path, size=self.transform.shorter_side))
        except UnreadableImage as error:
            self.dataset.mark_unreadable(image, str(error))
            return np.zeros((3, self.transform.size, self.transform.size), np.uint8)


class FineTunedModel:
    """A pretrained network with a new head, trained on from round to round like the seed's.

    Args: n_classes: C, the number of outputs.
          seed: draws the new head and the order of the training batches.
          test: (inputs, ids, labels) of the test set, for the stop rule `test` only.
    """

    def __init__(
        self,
        backbone: Backbone,
        n_classes: int,
        *,
        schedule: Schedule | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        test: tuple[PixelSet, Int64[np.ndarray, " t"], Int64[np.ndarray, " t"]] | None = None,
    ) -> None:
        self.backbone = backbone
        self.n_classes = n_classes
        self.schedule = schedule or Schedule()
        self.device = torch.device(device)
        self.test = test
        if self.schedule.stop == "test" and test is None:
            raise BadOption("the stop rule 'test' needs a test set. Give one, or use 'validation'.")
        self.network = backbone.classifier(n_classes, seed).to(self.device).to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.SGD(
            self.network.parameters(),
            lr=self.schedule.learning_rate,
            momentum=self.schedule.momentum,
            weight_decay=self.schedule.weight_decay,
        )

    def fresh(self, seed: int) -> FineTunedModel:
        """The same model before its first fit, with a head drawn with `seed`."""
        return FineTunedModel(
            self.backbone,
            self.n_classes,
            schedule=self.schedule,
            seed=seed,
            device=self.device,
            test=self.test,
        )

    def prepare(self, dataset: IndexedDataset, progress: Progress | None = None) -> PixelSet:
        """Nothing is computed ahead."""
        return PixelSet(dataset, self.backbone.transform)

    def fit(
        self, inputs: PixelSet, ids: Int64[np.ndarray, " l"], labels: Int64[np.ndarray, " l"], *, seed: int
    ) -> Mapping[str, float]:
        """One round of training on all labels so far, until the schedule says stop. Returns the epochs it took."""
        rng = np.random.default_rng(seed)
        if self.schedule.stop == "validation":
            train, held_out = split_stratified(labels, 0.2, rng)
        else:
            train, held_out = np.arange(len(ids)), np.empty(0, np.int64)
        best_loss, best_state, epochs_since_best = math.inf, None, 0
        last_accuracy = -1.0
        for epoch in range(1, self.schedule.max_epochs + 1):
            loss = self._epoch(inputs, ids[train], labels[train], rng)
            match self.schedule.stop:
                case "epochs":
                    if epoch == self.schedule.epochs:
                        break
                    continue
                case "test":
                    accuracy = self._test_accuracy()
                    if accuracy <= last_accuracy:
                        break
                    last_accuracy = accuracy
                    continue
                case "validation" if len(held_out):
                    loss = self._loss(inputs, ids[held_out], labels[held_out])
            if loss < 0.99 * best_loss:
                best_loss, epochs_since_best = loss, 0
                if self.schedule.stop == "validation":
                    best_state = copy.deepcopy(self.network.state_dict())
            else:
                epochs_since_best += 1
            if epochs_since_best == self.schedule.patience:
                break
        if best_state is not None:
            self.network.load_state_dict(best_state)
        return {"epochs": float(epoch)}

    @torch.inference_mode()
    def predict(self, inputs: PixelSet, ids: Int64[np.ndarray, " n"]) -> Float[np.ndarray, "n c"]:
        """Class probabilities of these images."""
        self.network.eval()
        parts = [self.network(pixels).softmax(dim=1).cpu() for pixels in self._batches(inputs, ids)]
        return torch.cat(parts).double().numpy() if parts else np.empty((0, self.n_classes))

    def _epoch(
        self,
        inputs: PixelSet,
        ids: Int64[np.ndarray, " l"],
        labels: Int64[np.ndarray, " l"],
        rng: np.random.Generator,
    ) -> float:
        self.network.train()
        order = rng.permutation(len(ids))
        total, start = 0.0, 0
        for pixels in self._batches(inputs, ids[order]):
            target = torch.from_numpy(labels[order[start : start + len(pixels)]]).to(self.device)
            start += len(pixels)
            self.optimiser.zero_grad()
            loss = nn.functional.cross_entropy(self.network(pixels), target)
            loss.backward()
            self.optimiser.step()
            total += loss.item() * len(pixels)
        return total / len(ids)

    def _loss(self, inputs: PixelSet, ids: Int64[np.ndarray, " v"], labels: Int64[np.ndarray, " v"]) -> float:
        probs = self.predict(inputs, ids)
        return float(-np.log(np.maximum(probs[np.arange(len(ids)), labels], 1e-12)).mean())

    def _test_accuracy(self) -> float:
        assert self.test is not None  # the constructor has checked
        inputs, ids, labels = self.test
        return float((self.predict(inputs, ids).argmax(axis=1) == labels).mean())

    def _batches(self, inputs: PixelSet, ids: Int64[np.ndarray, " n"]) -> Iterator[Float[Tensor, "b 3 s s"]]:
        for start in range(0, len(ids), self.schedule.batch_size):
            pixels = inputs.of(ids[start : start + self.schedule.batch_size])
            yield pixels.to(self.device).contiguous(memory_format=torch.channels_last)


def split_stratified(
    labels: Int64[np.ndarray, " l"], share: float, rng: np.random.Generator
) -> tuple[Int64[np.ndarray, " t"], Int64[np.ndarray, " v"]]:
    """Positions to train on and positions held out: about `share` of each class that has two or more.

    A class of one label is never held out, so every class seen is trained on.
    """
    held_out = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held_out.append(members[: min(len(members) - 1, math.ceil(share * len(members) - 0.5))])
    held = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), held), held
