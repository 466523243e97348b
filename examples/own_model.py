"""`ActiveLearner(predict=…)`: Vizsla chooses and asks, you train whatever model you like."""

import numpy as np
import torch
from torch import nn
from torchvision.transforms import Compose, Grayscale, ToTensor

from vizsla import ActiveLearner, IndexedDataset
from vizsla.data.samples import digits_folder

torch.manual_seed(0)
digits = IndexedDataset(digits_folder(), transform=Compose([Grayscale(), ToTensor()]))
pixels = torch.stack([digits[idx][0] for idx in range(len(digits))])
truth = np.array([digits.folder_label(idx) for idx in range(len(digits))])

network = nn.Sequential(
    nn.Conv2d(1, 16, 5, stride=2, padding=2),
    nn.ReLU(),
    nn.Conv2d(16, 32, 5, stride=2, padding=2),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(32 * 8 * 8, 10),
)
optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)


def train(ids: np.ndarray, labels: np.ndarray, epochs: int = 30) -> None:
    for _ in range(epochs):
        for part in torch.randperm(len(ids)).split(32):
            optimizer.zero_grad()
            outputs = network(pixels[ids[part]])
            nn.functional.cross_entropy(outputs, torch.from_numpy(labels[part])).backward()
            optimizer.step()


@torch.inference_mode()
def predict(dataset: IndexedDataset, ids: np.ndarray) -> np.ndarray:
    """(n, 10) class probabilities of these images: all that the learner wants to know of your model."""
    return network(pixels[ids]).softmax(dim=1).numpy()


learner = ActiveLearner(digits, predict=predict, strategy="margin", seed=0)
learner.query(20, strategy="random")
while True:
    labelled = digits.labelled()
    train(labelled, digits.labels[labelled])
    rest = digits.pool()
    right = (predict(digits, rest).argmax(axis=1) == truth[rest]).mean()
    print(f"{len(labelled)} labels: {right:.1%} of the {len(rest)} unlabelled images right")
    if len(labelled) == 120:
        break
    learner.query(20)
