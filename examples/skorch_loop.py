"""A skorch network and Vizsla: `IndexedDataset` feeds it, `ActiveLearner(predict=…)` asks it what to label next."""

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn
from torch.utils.data import Subset, default_collate
from torchvision.transforms import Compose, Grayscale, ToTensor

from vizsla import ActiveLearner, IndexedDataset
from vizsla.data.samples import digits_folder

torch.manual_seed(0)
digits = IndexedDataset(digits_folder(), transform=Compose([Grayscale(), ToTensor()]))
truth = np.array([digits.folder_label(idx) for idx in range(len(digits))])
test = np.arange(0, len(digits), 6)
for idx in test:
    digits.skip(idx)  # never asked about, so never learnt from


def without_index(items: list) -> list:
    """skorch wants (image, label); an `IndexedDataset` gives (image, label, index)."""
    return default_collate([(image, label) for image, label, _ in items])


network = NeuralNetClassifier(
    nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 8 * 8, 10),
    ),
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=2e-3,
    max_epochs=20,
    batch_size=32,
    train_split=None,
    warm_start=True,
    verbose=0,
    iterator_train__shuffle=True,
    iterator_train__collate_fn=without_index,
    iterator_valid__collate_fn=without_index,
)


def predict(dataset: IndexedDataset, ids: np.ndarray) -> np.ndarray:
    return network.predict_proba(Subset(dataset, ids))


learner = ActiveLearner(digits, predict=predict, strategy="margin", pool_size=500)
for query in range(5):
    learner.query(20, strategy=None if query else "random")
    network.fit(Subset(digits, digits.labelled()), y=None)
    right = (network.predict(Subset(digits, test)) == truth[test]).mean()
    print(f"{len(digits.labelled())} labels: {right:.1%} of {len(test)} test images right")
