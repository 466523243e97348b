"""Training the whole network, as the seed article does: SGD, a new loader each round, all labels so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from vizsla.data.indexed import IndexedDataset
from vizsla.errors import BadOption, UnreadableImage
from vizsla.functional.metrics import evaluate
from vizsla.models.backbones import Backbone, Transform
from vizsla.models.embed import in_threads
from vizsla.models.refill import Refillable
from vizsla.models.runtime import OnnxRuntime, cores
from vizsla.models.stopping import LossStalls, StopRule, TestFalls, ValidationStalls
from vizsla.types import Progress

ROOM = 1 << 30
"""Bytes of decoded images that are kept: 7,000 of 224 × 224 pixels."""
FEWEST = 64
"""Images that are worth filling the weights of today into ONNX Runtime: about a second."""
WORTH_EXPORTING = 200
"""Images in a data set that are worth exporting the network: about ten seconds, once."""
OnEpoch = Callable[[int, float], None]
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

    All but `epochs` also stop after `max_epochs`.
    """

    stop: str = "validation"
    epochs: int = 10
    max_epochs: int = 50
    patience: int = 3
    batch_size: int = 32
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    augment: bool = False
    """Show each image flipped at random, and a random part of it from 70% on. Not for digits or arrows."""
    keep_statistics: bool = False
    """Batch normalisation keeps the statistics it came with, which few images of one kind would spoil."""

    def __post_init__(self) -> None:
        if self.stop not in STOP_RULES:
            raise BadOption(f"no training stop rule named {self.stop!r}. Known: {', '.join(STOP_RULES)}.")
        if min(self.epochs, self.max_epochs, self.batch_size, self.patience) < 1:
            raise BadOption("epochs, max_epochs, patience and batch_size must be at least 1.")

    @property
    def longest(self) -> int:
        """No round trains for more epochs."""
        return self.epochs if self.stop == "epochs" else self.max_epochs


class PixelSet:
    """Images of a data set as the network wants them: decoded when first asked for, and kept while there is room."""

    def __init__(self, dataset: IndexedDataset, transform: Transform, *, room: int = ROOM) -> None:
        self.dataset = dataset
        self.transform = transform
        self._kept: dict[str, UInt8[np.ndarray, "3 s s"]] = {}
        self._most = room // (3 * transform.size**2)

    def subset(self, ids: Int64[np.ndarray, " m"]) -> PixelSet:
        """Only these images, numbered anew; what is kept of them is shared."""
        part = PixelSet(self.dataset.subset(ids), self.transform)
        part._kept, part._most = self._kept, self._most
        return part

    @property
    def ids(self) -> Int64[np.ndarray, " n"]:
        """Images that can be read."""
        every = np.arange(len(self.dataset), dtype=np.int64)
        return every[self.readable(every)]

    def readable(self, ids: Int64[np.ndarray, " m"]) -> Bool[np.ndarray, " m"]:
        """Which of these images have not been found broken."""
        broken = self.dataset.unreadable
        return np.array([self.dataset.file_name(image) not in broken for image in ids], bool)

    def of(self, ids: Int64[np.ndarray, " m"]) -> UInt8[np.ndarray, "m 3 s s"]:
        """Pixels, 0–255. An image that turns out to be broken is black here and leaves the pool."""
        with ThreadPoolExecutor(min(8, cores())) as threads:
            found = list(threads.map(self._pixels, ids.tolist()))
        broken = {
            image: pixels
            for image, pixels in zip(ids.tolist(), found, strict=True)
            if isinstance(pixels, str)
        }
        self.dataset.mark_all_unreadable(broken)
        black = np.zeros((3, self.transform.size, self.transform.size), np.uint8)
        return np.stack([black if isinstance(pixels, str) else pixels for pixels in found])

    def _pixels(self, image: int) -> UInt8[np.ndarray, "3 s s"] | str:
        name = self.dataset.file_name(image)
        kept = self._kept.get(name)
        if kept is not None:
            return kept
        try:
            found = self.transform.pixels(self.dataset.image(image, size=self.transform.shorter_side))
        except UnreadableImage as error:
            return str(error)
        if len(self._kept) < self._most:
            self._kept[name] = found
        return found


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
        self._trained: Refillable | None = None
        if self.schedule.stop == "test" and test is None:
            raise BadOption("the stop rule 'test' needs a test set. Give one, or use 'validation'.")
        self.network = (
            backbone.classifier(n_classes, seed).to(self.device).to(memory_format=torch.channels_last)
        )
        self.optimiser = torch.optim.SGD(
            self.network.parameters(),
            lr=self.schedule.learning_rate,
            momentum=self.schedule.momentum,
            weight_decay=self.schedule.weight_decay,
        )

    def prepare(self, dataset: IndexedDataset, progress: Progress | None = None) -> PixelSet:
        """Nothing is computed ahead."""
        return PixelSet(dataset, self.backbone.transform)

    def start_from(self, weights: Float[np.ndarray, "c d"], bias: Float[np.ndarray, " c"]) -> None:
        """Begin with this head on the features as they are, instead of a random one.

        A random head would pull the features about before it has learned anything itself.
        Source: Kumar et al. 2022, arXiv:2202.10054.
        """
        with torch.no_grad():
            for values, given in zip(self.network[1].parameters(), (weights, bias), strict=True):
                values.copy_(torch.from_numpy(np.asarray(given, np.float32)))

    def fit(
        self,
        inputs: PixelSet,
        ids: Int64[np.ndarray, " l"],
        labels: Int64[np.ndarray, " l"],
        *,
        seed: int,
        on_epoch: OnEpoch | None = None,
    ) -> Mapping[str, float]:
        """One round of training on all labels so far, until the schedule says stop.

        Args:    on_epoch: called after each epoch with its number, from 1, and its loss.
        Returns: epochs it took, the one whose weights are kept, the loss of the last; with the stop rule `validation`
                 also what the kept weights reach on the labels held out.
        """
        rng = np.random.default_rng(seed)
        with torch.random.fork_rng():  # for dropout; the caller's random state is untouched
            torch.manual_seed(seed)
            train, held_out, rule = self._plan(inputs, ids, labels, rng)
            for epoch in range(1, self.schedule.longest + 1):
                loss = self._epoch(inputs, ids[train], labels[train], rng)
                if on_epoch:
                    on_epoch(epoch, loss)
                if rule.enough(loss):
                    break
            rule.finish()
        told = {"epochs": float(epoch), "best_epoch": float(rule.best_epoch or epoch), "train_loss": loss}
        return told | self._validated(inputs, ids[held_out], labels[held_out])

    def _validated(
        self, inputs: PixelSet, ids: Int64[np.ndarray, " v"], labels: Int64[np.ndarray, " v"]
    ) -> dict[str, float]:
        if not len(ids):
            return {}
        found = evaluate(self.predict(inputs, ids), labels)
        return {"val_loss": found["nll"], "val_acc": found["accuracy"], "val_macro_f1": found["macro_f1"]}

    def _plan(
        self,
        inputs: PixelSet,
        ids: Int64[np.ndarray, " l"],
        labels: Int64[np.ndarray, " l"],
        rng: np.random.Generator,
    ) -> tuple[Int64[np.ndarray, " t"], Int64[np.ndarray, " v"], StopRule]:
        """Positions to train on, those held out for validation, and the rule that ends the round."""
        everything, nothing = np.arange(len(ids)), np.empty(0, np.int64)
        match self.schedule.stop:
            case "epochs":
                return everything, nothing, StopRule()
            case "test":
                return everything, nothing, TestFalls(self._test_accuracy)
            case "validation":
                train, held_out = split_stratified(labels, 0.2, rng)
                if len(held_out):  # else too few labels to spare any
                    measure = partial(self._loss, inputs, ids[held_out], labels[held_out])
                    return (
                        train,
                        held_out,
                        ValidationStalls(self.schedule.patience, self.network, measure),
                    )
        return everything, nothing, LossStalls(self.schedule.patience)

    @torch.inference_mode()
    def predict(self, inputs: PixelSet, ids: Int64[np.ndarray, " n"]) -> Float[np.ndarray, "n c"]:
        """Class probabilities of these images."""
        if not len(ids):
            return np.empty((0, self.n_classes))
        self.network.eval()
        fast = self._fast(inputs, len(ids))
        if fast is None:
            batches = even_batches(ids, self.schedule.batch_size)
            logits = torch.cat([self.network(self._on_device(inputs.of(batch))).cpu() for batch in batches])
        else:
            parts = (inputs.of(batch) for batch in even_batches(ids, fast.batch))
            features = np.concatenate(list(in_threads(fast, parts, ahead=fast.at_once)))
            logits = self.network[1](torch.from_numpy(features))
        return logits.double().softmax(dim=1).numpy()

    def _fast(self, inputs: PixelSet, images: int) -> OnnxRuntime | None:
        """The backbone as it is now in ONNX Runtime, where so many images are worth filling in its weights."""
        if self.device.type != "cpu" or images < FEWEST or len(inputs.dataset) < WORTH_EXPORTING:
            return None
        if self._trained is None:
            self._trained = Refillable(self.backbone)
        return self._trained.filled(self.network[0])

    def _epoch(
        self,
        inputs: PixelSet,
        ids: Int64[np.ndarray, " l"],
        labels: Int64[np.ndarray, " l"],
        rng: np.random.Generator,
    ) -> float:
        """Once through all images, in a new order; the mean loss in nats."""
        total = 0.0
        for batch in even_batches(rng.permutation(len(ids)), self.schedule.batch_size):
            pixels = torch.from_numpy(inputs.of(ids[batch]))
            readable = inputs.readable(ids[batch])
            if readable.any():
                shown = augmented(pixels[readable]) if self.schedule.augment else pixels[readable]
                total += self._step(shown, labels[batch][readable]) * len(batch)
        if not math.isfinite(total):
            raise BadOption(
                f"the training diverged at a learning rate of {self.schedule.learning_rate:g}. Use a smaller one."
            )
        return total / len(ids)

    def _step(self, pixels: UInt8[Tensor, "b 3 s s"], labels: Int64[np.ndarray, " b"]) -> float:
        """One step of the optimiser; the mean loss of the batch before it."""
        self.network.train()
        if len(pixels) == 1 or self.schedule.keep_statistics:  # one image has none to normalise by
            freeze_batch_norm(self.network)
        self.optimiser.zero_grad()
        logits = self.network(self._on_device(pixels))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels).to(self.device))
        loss.backward()
        self.optimiser.step()
        return loss.item()

    def _loss(self, inputs: PixelSet, ids: Int64[np.ndarray, " v"], labels: Int64[np.ndarray, " v"]) -> float:
        probs = self.predict(inputs, ids)
        return float(-np.log(np.maximum(probs[np.arange(len(ids)), labels], 1e-12)).mean())

    def _test_accuracy(self) -> float:
        assert self.test is not None  # the constructor has checked
        inputs, ids, labels = self.test
        return float((self.predict(inputs, ids).argmax(axis=1) == labels).mean())

    def _on_device(
        self, pixels: UInt8[np.ndarray, "b 3 s s"] | UInt8[Tensor, "b 3 s s"]
    ) -> Float[Tensor, "b 3 s s"]:
        inputs = torch.as_tensor(pixels).to(self.device)
        return self.backbone.transform.normalise(inputs).contiguous(memory_format=torch.channels_last)


def augmented(pixels: UInt8[Tensor, "b 3 s s"]) -> UInt8[Tensor, "b 3 s s"]:
    """Each image flipped or not, and a part of it that fills the square; drawn from torch's random state."""
    from torchvision.transforms import v2

    size = pixels.shape[-1]
    change = v2.Compose(
        [v2.RandomResizedCrop(size, scale=(0.7, 1.0), antialias=True), v2.RandomHorizontalFlip()]
    )
    return torch.stack([change(image) for image in pixels])


def even_batches(items: np.ndarray, size: int) -> list[np.ndarray]:
    """Batches of at most `size` that differ by one at most, so that none is a lonely last image.

    >>> [len(batch) for batch in even_batches(np.arange(9), 4)]
    [3, 3, 3]
    """
    return np.array_split(items, math.ceil(len(items) / size)) if len(items) else []


def freeze_batch_norm(network: nn.Module) -> None:
    """Have batch normalisation use its running statistics, until the next `train()`."""
    for part in network.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            part.eval()


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
