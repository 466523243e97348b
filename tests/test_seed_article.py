"""The seed article's loop runs as it stands there, and `query_the_oracle` does what the article says of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn, optim
from torch.utils.data import DataLoader, SubsetRandomSampler
from torchvision import transforms

from vizsla import IndexedDataset, load_backbone, query_the_oracle
from vizsla.errors import BadArray, NotEnoughImages, UnknownName
from vizsla.oracle import Quit
from vizsla.testing import toy_images

COLOURS = ("0_red", "1_green", "2_blue")
SIDE = 64
"""Pixels of a toy image; the network gets all images at that size and at twice that."""
SEED = 2
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
device = torch.device("cpu")


@pytest.fixture(params=["toys", "dogs"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Three classes in folders that begin with their label: 20 training and 10 test images of each."""
    if request.param == "toys":
        toy_images(tmp_path / "train", classes=COLOURS, per_class=20, side=SIDE)
        toy_images(tmp_path / "test", classes=COLOURS, per_class=10, side=SIDE, seed=1)
        return tmp_path
    dogs: Path = request.getfixturevalue("real_dogs")
    for part, count in (("train", 20), ("test", 10)):
        for breed in sorted((dogs / part).iterdir())[:3]:
            (tmp_path / part / breed.name).mkdir(parents=True)
            for file in sorted(breed.iterdir())[:count]:
                shutil.copy(file, tmp_path / part / breed.name)
    return tmp_path


# --- the article's loop: its own imports, weights line and num_workers


def train(model, device, train_loader, optimizer, criterion):
    model.train()
    total = 0.0
    for data, target, _ in train_loader:
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        loss = criterion(model(data), target)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(train_loader)


def test(model, device, test_loader, criterion, display=False):  # noqa: PT028
    model.eval()
    total, correct = 0.0, 0
    with torch.no_grad():
        for data, target, _ in test_loader:
            data, target = data.to(device), target.to(device)
            output = model(data)
            total += criterion(output, target).item()
            correct += (output.argmax(dim=1) == target).sum().item()
    test_loss, test_acc = total / len(test_loader), 100.0 * correct / len(test_loader.dataset)
    if display:
        print(f"test loss {test_loss:.4f}, accuracy {test_acc:.1f}%")
    return test_loss, test_acc


test.__test__ = False  # the article's name; pytest must not call it


def pretrained(num_classes: int) -> nn.Module:
    """The bundled backbone with a new layer to train; ten images are too few to train the rest of it."""
    classifier = load_backbone("efficientnet_lite0").classifier(num_classes)
    classifier[0].requires_grad_(False)
    return classifier


def smallest_margins(model: nn.Module, dataset: IndexedDataset, n: int) -> set[int]:
    """The slow, obvious way to the margin query's answer, one image at a time."""
    model.eval()
    margins = {}
    for idx in np.flatnonzero(dataset.unlabeled_mask):
        with torch.no_grad():
            first, second = sorted(model(dataset[idx][0][None])[0].double().softmax(0).tolist())[-1:-3:-1]
        margins[int(idx)] = first - second
    return set(sorted(margins, key=margins.__getitem__)[:n])


@pytest.mark.parametrize("pixels", [SIDE, 2 * SIDE])
def test_the_articles_loop_runs_with_only_its_imports_its_weights_line_and_num_workers_changed(
    pixels: int, folder: Path, capsys: pytest.CaptureFixture[str]
):
    torch.manual_seed(SEED)
    train_dir, test_dir = folder / "train", folder / "test"
    num_classes, num_queries, query_size, batch_size = 3, 2, 5, 5
    transform = transforms.Compose(
        [
            transforms.Resize(pixels),
            transforms.CenterCrop(pixels),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    train_set = IndexedDataset(train_dir, transform=transform)
    test_set = IndexedDataset(test_dir, transform=transform, test=True)
    test_loader = DataLoader(test_set, batch_size=batch_size, shuffle=False, num_workers=0)

    classifier = pretrained(num_classes)
    before = [p.detach().clone() for p in classifier.parameters() if p.requires_grad]
    classifier = classifier.to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(classifier.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    query_the_oracle(
        classifier, device, train_set, query_size=10, interactive=False, num_workers=0, seed=SEED
    )
    labels_after, chosen = [], []
    for query in range(num_queries + 1):
        if query:
            wanted = smallest_margins(classifier, train_set, query_size)
            classifier.train()
            asked = query_the_oracle(
                classifier,
                device,
                train_set,
                query_size=query_size,
                query_strategy="margin",
                interactive=False,
                num_workers=0,
            )
            chosen.append((set(asked.ids.tolist()), wanted))
            assert all(part.training for part in classifier.modules())
        labeled_idx = np.where(train_set.unlabeled_mask == 0)[0]
        labels_after.append(len(labeled_idx))
        labeled_loader = DataLoader(train_set, batch_size=batch_size, num_workers=0,
                                    sampler=SubsetRandomSampler(labeled_idx))  # fmt: skip
        previous_test_acc, current_test_acc = 0, 1
        while current_test_acc > previous_test_acc:
            previous_test_acc = current_test_acc
            train(classifier, device, labeled_loader, optimizer, criterion)
            _, current_test_acc = test(classifier, device, test_loader, criterion)
    _, test_acc = test(classifier, device, test_loader, criterion, display=True)

    assert labels_after == [10, 15, 20]
    assert all(asked == wanted for asked, wanted in chosen)
    for idx in range(len(train_set)):
        in_loop = idx in labeled_idx
        digit = int(Path(train_set.image_filenames[idx]).parent.name[0])
        assert train_set.unlabeled_mask[idx] == (0 if in_loop else 1)
        assert train_set.labels[idx] == (digit if in_loop else 0)
    trained = [p for p in classifier.parameters() if p.requires_grad]
    assert not any(torch.equal(parameter, old) for parameter, old in zip(trained, before, strict=True))
    assert f"accuracy {test_acc:.1f}%" in capsys.readouterr().out
    assert (
        pixels == SIDE or test_acc >= 50  # 64 pixels are too few for this network to tell much
    )  # by chance 33; seeds 0 to 5 gave 70 to 93 on the toys, 50 to 70 on the dogs; seed 2: 87 and 67


# --- what the article says of `query_the_oracle`


def mean_colour(image: Image.Image) -> torch.Tensor:
    return torch.tensor(np.asarray(image, np.float32).mean(axis=(0, 1)) / 255)


@pytest.fixture
def colours(toys: Path) -> IndexedDataset:
    """36 images of three classes, each handed out as its mean colour."""
    return IndexedDataset(toys, transform=mean_colour)


@pytest.fixture
def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 3)


def ask(model: nn.Module, dataset: IndexedDataset, n: int, **options: Any) -> list[int]:
    options = {"query_strategy": "margin", "interactive": False, "num_workers": 0} | options
    return query_the_oracle(model, "cpu", dataset, query_size=n, **options).ids.tolist()


def test_every_unlabelled_image_even_the_first_can_be_in_the_sub_pool(
    colours: IndexedDataset, linear: nn.Linear
):
    for idx in (0, 1, 2):
        colours.label_from_filename(idx)
    drawn = set()
    for seed in range(400):  # each image is missed in all of them with probability (32/33)^400 = 5e-6
        (idx,) = ask(linear, colours, 1, pool_size=1, seed=seed)
        drawn.add(idx)
        colours.clear_label(idx)
    assert drawn == set(range(3, 36))


def test_a_sub_pool_of_all_but_one_image_gives_the_smallest_margins_of_those(
    colours: IndexedDataset, linear: nn.Linear
):
    wanted = smallest_margins(linear, colours, 2)
    asked = [set(ask(linear, colours.fresh(), 1, pool_size=35, seed=seed)) for seed in range(20)]
    assert all(len(batch) == 1 and batch <= wanted for batch in asked)


def test_without_a_seed_two_queries_differ_and_with_one_they_agree(
    colours: IndexedDataset, linear: nn.Linear
):
    def batch(**options: Any) -> tuple[int, ...]:
        return tuple(ask(linear, colours.fresh(), 12, query_strategy="random", **options))

    assert len({batch() for _ in range(3)}) == 3  # alike by chance: less than once in 10^17
    assert len({batch(seed=7) for _ in range(3)}) == 1


class WithBatchNorm(nn.Sequential):
    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 3))


def test_a_query_changes_no_weight_and_no_running_statistic(colours: IndexedDataset):
    model = WithBatchNorm().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ask(model, colours, 5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_query_sees_the_model_without_dropout(colours: IndexedDataset):
    model = WithBatchNorm()
    wanted = smallest_margins(model, colours, 5)
    model.train()
    assert set(ask(model, colours, 5)) == wanted


def test_each_part_of_the_model_is_put_back_into_its_own_mode(colours: IndexedDataset):
    model = WithBatchNorm().train()
    model[0].eval()  # a frozen batch normalisation, as fine-tuning often has it
    ask(model, colours, 5)
    assert [part.training for part in model.modules()] == [True, False, True, True]


def test_the_modes_are_put_back_when_the_model_fails(colours: IndexedDataset):
    model = nn.Sequential(nn.Linear(4, 3)).train()  # it wants four numbers; a mean colour has three
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        ask(model, colours, 5)
    assert model.training and model[0].training
    assert colours.unlabeled_mask.all()


def test_a_person_is_asked_by_input_and_the_answers_are_written(
    colours: IndexedDataset,
    linear: nn.Linear,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    answers = ["2", "purple", "gr", "blue"]  # a number, a slip, the beginning of a name, a name
    monkeypatch.setattr("builtins.input", lambda prompt: answers.pop(0))
    asked = ask(linear, colours, 3, interactive=True)
    assert [colours.classes[label] for label in colours.labels[asked]] == ["red", "green", "blue"]
    assert colours.labelled().tolist() == sorted(asked)
    assert "no class 'purple'" in capsys.readouterr().out


def test_quitting_keeps_the_answers_given(
    colours: IndexedDataset, linear: nn.Linear, monkeypatch: pytest.MonkeyPatch
):
    answers = ["1", "q"]
    monkeypatch.setattr("builtins.input", lambda prompt: answers.pop(0))
    with pytest.raises(Quit):
        ask(linear, colours, 3, interactive=True)
    assert colours.labels[colours.labelled()].tolist() == [1]


def test_an_unknown_strategy_is_an_error_with_a_suggestion(colours: IndexedDataset, linear: nn.Linear):
    with pytest.raises(UnknownName, match="Did you mean 'margin'"):
        ask(linear, colours, 3, query_strategy="margn")


def test_asking_for_more_than_there_is_names_both_numbers(colours: IndexedDataset, linear: nn.Linear):
    with pytest.raises(NotEnoughImages, match="batch of 37 images, but only 36"):
        ask(linear, colours, 37)


def test_a_model_that_returns_no_logits_per_image_is_an_error(colours: IndexedDataset):
    with pytest.raises(BadArray, match=r"logits, not shape \(36,\)"):
        ask(nn.Flatten(0), IndexedDataset(colours.dir_path, transform=lambda image: torch.tensor(0.5)), 3)


class Wrapped(nn.Module):
    """The linear network, its logits in whatever others return them in."""

    def __init__(self, linear: nn.Linear, wrap: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.linear = linear
        self.wrap = wrap

    def forward(self, images: torch.Tensor) -> Any:
        return self.wrap(self.linear(images))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits: (logits, torch.zeros(len(logits), 7)),
        lambda logits: [logits, None],
        lambda logits: {"logits": logits, "loss": None},
        lambda logits: SimpleNamespace(logits=logits),
    ],
    ids=["with features", "list", "dictionary", "object"],
)
def test_logits_are_found_in_what_networks_return(colours: IndexedDataset, linear: nn.Linear, wrap: Any):
    twin = IndexedDataset(colours.dir_path, transform=mean_colour)
    assert ask(Wrapped(linear, wrap), colours, 5, seed=1) == ask(linear, twin, 5, seed=1)


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda logits: None, "logits, not None"),
        (lambda logits: {"scores": logits}, "logits, not a dict"),
        (lambda logits: logits.tolist(), "logits, not a list"),
        (lambda logits: (torch.zeros(len(logits), 7), logits), r"not \(36, 7\)"),
        (lambda logits: logits[:, :2], r"shape \(36, 3\).* a column for each class, not \(36, 2\)"),
        (lambda logits: logits[:1], r"not \(1, 3\)"),
        (lambda logits: logits / 0, "NaN or infinity for blue/000.png"),
    ],
)
def test_what_holds_no_logits_of_the_classes_is_refused(
    colours: IndexedDataset, linear: nn.Linear, wrap: Any, message: str
):
    with pytest.raises(BadArray, match=message):
        ask(Wrapped(linear, wrap), colours, 5)
    assert not len(colours.labelled())
