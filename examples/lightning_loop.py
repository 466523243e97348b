"""A Lightning module and Vizsla: your module, Lightning's trainer, and `ActiveLearner` for what to label next."""

import logging
import warnings

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision.transforms import Compose, Grayscale, ToTensor

from vizsla import ActiveLearner, IndexedDataset
from vizsla.data.samples import digits_folder


class Digits(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 5, 2, 2), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 8 * 8, 10),
        )  # fmt: skip

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        images, labels, _ = batch  # what an IndexedDataset gives: the third is the image's index
        return nn.functional.cross_entropy(self.network(images), labels)

    def predict_step(self, batch: list[Tensor], _: int) -> Tensor:
        return self.network(batch[0]).softmax(dim=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def trainer() -> lightning.Trainer:
    return lightning.Trainer(
        max_epochs=20, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


def predict(dataset: IndexedDataset, ids: np.ndarray) -> np.ndarray:
    return torch.cat(trainer().predict(module, DataLoader(Subset(dataset, ids), 256))).numpy()


warnings.filterwarnings("ignore", module="lightning")  # it warns of itself, and of data too small for workers
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
lightning.seed_everything(0, verbose=False)
digits = IndexedDataset(digits_folder(), transform=Compose([Grayscale(), ToTensor()]))
truth = np.array([digits.folder_label(idx) for idx in range(len(digits))])
module = Digits()
learner = ActiveLearner(digits, predict=predict, strategy="margin", pool_size=500)
for query in range(5):
    learner.query(20, strategy=None if query else "random")
    trainer().fit(module, DataLoader(Subset(digits, digits.labelled()), 32, shuffle=True))
    rest = digits.pool()[::5]
    right = (predict(digits, rest).argmax(axis=1) == truth[rest]).mean()
    print(f"{len(digits.labelled())} labels: {right:.1%} of {len(rest)} unlabelled images right")
