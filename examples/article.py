"""The seed article's loop: your own network and training, `query_the_oracle` for the labels.

Like the article, it watches the test accuracy to decide when to stop training, so the accuracy printed at the
end is a little too good. A validation set would not have that fault. Unlike the article, it trains the new
last layer only: that takes seconds on a CPU, and so few images are not enough to train the rest.
"""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, SubsetRandomSampler

from vizsla import IndexedDataset, load_backbone, query_the_oracle
from vizsla.data.samples import digits_folder


def train(model: nn.Sequential, loader: DataLoader, optimizer: torch.optim.Optimizer) -> None:
    model.train()
    model[0].eval()  # the pretrained part stays as it is, its batch statistics too
    for images, labels, _ in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()


@torch.inference_mode()
def test(model: nn.Module, loader: DataLoader) -> float:
    model.eval()
    right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels, _ in loader)
    return 100 * right / len(loader.dataset)


torch.manual_seed(0)
backbone = load_backbone(image_size=64)
digits = IndexedDataset(digits_folder(), transform=backbone.transform)
test_set = digits.subset(range(0, len(digits), 18))
for idx in range(len(test_set)):
    test_set.label_from_filename(idx)
train_set = digits.subset(idx for idx in range(len(digits)) if idx % 18)
test_loader = DataLoader(test_set, batch_size=128)

model = backbone.classifier(n_classes=10)
model[0].requires_grad_(False)
optimizer = torch.optim.SGD(model[1].parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

for query in range(5):
    strategy = "margin" if query else "random"
    query_the_oracle(
        model, "cpu", train_set, query_strategy=strategy, query_size=20, interactive=False,
        pool_size=200, num_workers=0, seed=query,
    )  # fmt: skip
    labeled_idx = np.where(train_set.unlabeled_mask == 0)[0]
    labeled_loader = DataLoader(train_set, batch_size=16, sampler=SubsetRandomSampler(labeled_idx.tolist()))
    previous_test_acc, current_test_acc = 0.0, 1.0
    while current_test_acc > previous_test_acc:
        previous_test_acc = current_test_acc
        train(model, labeled_loader, optimizer)
        current_test_acc = test(model, test_loader)
    print(f"{len(labeled_idx)} labels ({strategy}): {current_test_acc:.1f}% of the test images right")
