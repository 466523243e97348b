from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from vizsla.data import images
from vizsla.data.indexed import IndexedDataset
from vizsla.errors import BadOption
from vizsla.models import finetune
from vizsla.models.backbones import Backbone, load_backbone, one_thread
from vizsla.models.finetune import (
    FineTunedModel,
    PixelSet,
    Schedule,
    augmented,
    even_batches,
    freeze_batch_norm,
    split_stratified,
)
from vizsla.models.stopping import LossStalls, TestFalls, ValidationStalls
from vizsla.testing import TOY_BACKBONE, toy_images

QUICK = Schedule(stop="epochs", epochs=30, learning_rate=0.1, batch_size=8)


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """Networks as small as the toy only wait for torch's helper threads."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def toy() -> Backbone:
    return load_backbone(TOY_BACKBONE)


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> IndexedDataset:
    return IndexedDataset(toy_images(tmp_path_factory.mktemp("colours"), per_class=20), test=True)


def trained(
    model: FineTunedModel, dataset: IndexedDataset, ids: Sequence[int], seed: int = 0
) -> dict[str, float]:
    chosen = np.array(ids, np.int64)
    return dict(model.fit(model.prepare(dataset), chosen, dataset.labels[chosen], seed=seed))


def tensors(inputs: PixelSet, ids: np.ndarray) -> Tensor:
    """What the network is shown."""
    return inputs.transform.normalise(torch.from_numpy(inputs.of(ids)))


def weights(model: FineTunedModel) -> list[Tensor]:
    return [tensor.clone() for tensor in model.network.state_dict().values()]


def same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# --- learning


@pytest.mark.parametrize("stop", ["epochs", "loss", "validation", "test"])
def test_twelve_labels_a_class_teach_it_the_colours(
    stop: str, toy: Backbone, colours: IndexedDataset
) -> None:
    learn, exam = np.arange(60)[np.arange(60) % 20 < 12], np.arange(60)[np.arange(60) % 20 >= 12]
    test = (PixelSet(colours, toy.transform), exam, colours.labels[exam])
    model = FineTunedModel(toy, 3, schedule=replace(QUICK, stop=stop, epochs=20), test=test)
    for round in range(3):  # the seed's rule stops at once where the accuracy stands still
        trained(model, colours, learn, seed=round)
    guess = model.predict(model.prepare(colours), exam).argmax(axis=1)
    assert (guess == colours.labels[exam]).mean() > 0.9


def test_training_reaches_the_backbone_s_weights_in_a_copy(toy: Backbone, colours: IndexedDataset) -> None:
    model, before = FineTunedModel(toy, 3, schedule=QUICK), toy.module.state_dict()["mix"].clone()
    trained(model, colours, range(0, 60, 5))
    assert torch.equal(toy.module.state_dict()["mix"], before)
    assert not torch.equal(model.network.state_dict()["0.mix"], before)


def test_one_step_is_plain_sgd_with_momentum_and_decay(toy: Backbone, colours: IndexedDataset) -> None:
    schedule = Schedule(stop="epochs", epochs=2, batch_size=60, learning_rate=0.2, weight_decay=0.01)
    model = FineTunedModel(toy, 3, schedule=schedule)
    twin = toy.classifier(3, seed=0)
    pixels = tensors(model.prepare(colours), np.arange(60))
    velocity = [torch.zeros_like(parameter) for parameter in twin.parameters()]
    for _ in range(2):
        twin.zero_grad()
        nn.functional.cross_entropy(twin(pixels), torch.from_numpy(colours.labels)).backward()
        with torch.no_grad():
            for parameter, speed in zip(twin.parameters(), velocity, strict=True):
                assert parameter.grad is not None
                speed.mul_(0.9).add_(parameter.grad + 0.01 * parameter)
                parameter.sub_(0.2 * speed)
    trained(model, colours, range(60))
    for ours, theirs in zip(model.network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_network_that_starts_from_a_head_says_at_first_what_that_head_says(
    toy: Backbone, colours: IndexedDataset
) -> None:
    rng = np.random.default_rng(0)
    weights, bias = rng.normal(0, 1, (3, 24)), rng.normal(0, 1, 3)
    model = FineTunedModel(toy, 3)
    model.start_from(weights, bias)
    inputs = model.prepare(colours)
    with torch.no_grad():
        features = toy.module(tensors(inputs, np.arange(60))).numpy()
    odds = np.exp(features @ weights.T + bias)
    expected = odds / odds.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict(inputs, np.arange(60)), expected, atol=1e-5)


@pytest.mark.parametrize("keep", [True, False])
def test_the_statistics_of_batch_normalisation_stay_where_asked(
    toy: Backbone, colours: IndexedDataset, keep: bool
) -> None:
    module = nn.Sequential(toy.module, nn.BatchNorm1d(24)).eval()
    backbone = Backbone("normed", module, toy.transform, 24, "normed")
    model = FineTunedModel(
        backbone, 3, schedule=Schedule(stop="epochs", epochs=2, batch_size=20, keep_statistics=keep)
    )
    trained(model, colours, range(60))
    state = model.network.state_dict()
    assert torch.equal(state["0.1.running_mean"], torch.zeros(24)) == keep
    assert not torch.equal(state["0.1.weight"], torch.ones(24))  # it learns all the same


def test_the_epoch_whose_weights_are_kept_is_told_with_what_they_reach(
    toy: Backbone, colours: IndexedDataset
) -> None:
    told = trained(FineTunedModel(toy, 3, schedule=Schedule(max_epochs=6, patience=2)), colours, range(60))
    assert 1 <= told["best_epoch"] <= told["epochs"] <= 6
    assert told["epochs"] == 6 or told["best_epoch"] == told["epochs"] - 2  # the patience
    assert 0 <= told["val_acc"] <= 1
    assert told["val_loss"] > 0
    assert told["train_loss"] > 0


def test_a_round_goes_on_from_the_weights_of_the_last(toy: Backbone, colours: IndexedDataset) -> None:
    still = Schedule(stop="epochs", epochs=1, learning_rate=1e-12)
    model = FineTunedModel(toy, 3, schedule=QUICK)
    trained(model, colours, range(60))
    after_first = weights(model)
    model.schedule = still
    for group in model.optimiser.param_groups:
        group["lr"] = still.learning_rate
    trained(model, colours, range(60))
    for before, after in zip(after_first, weights(model), strict=True):
        torch.testing.assert_close(before, after)


def test_a_seed_repeats_a_run_and_leaves_the_caller_s_random_state_alone(
    toy: Backbone, colours: IndexedDataset
) -> None:
    dropout = replace(toy, module=nn.Sequential(toy.module, nn.Dropout(0.5)))
    runs = {}
    for name, seed in {"once": 1, "again": 1, "other": 2}.items():
        torch.manual_seed(hash(name) % 1000)
        state = torch.random.get_rng_state()
        model = FineTunedModel(dropout, 3, schedule=replace(QUICK, epochs=3))
        trained(model, colours, range(60), seed=seed)
        assert torch.equal(torch.random.get_rng_state(), state)
        runs[name] = weights(model)
    assert same(runs["once"], runs["again"])
    assert not same(runs["once"], runs["other"])


def test_probabilities_are_the_softmax_of_the_logits_in_the_order_asked(
    toy: Backbone, colours: IndexedDataset
) -> None:
    model = FineTunedModel(toy, 3, schedule=replace(QUICK, batch_size=4))
    ids = np.array([50, 3, 3, 17, 28, 9, 41])
    inputs = model.prepare(colours)
    with torch.inference_mode():
        expected = torch.stack([model.network(tensors(inputs, ids[i : i + 1]))[0] for i in range(7)])
    np.testing.assert_allclose(model.predict(inputs, ids), expected.double().softmax(dim=1), atol=1e-6)
    assert model.predict(inputs, ids[:0]).tolist() == []


# --- every image once an epoch, in another order


class Diary(nn.Module):
    """Notes the brightness of each image it is trained on, which tells the images apart."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    epochs: list[list[float]]

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            type(self).seen.append(x.mean(dim=(1, 2, 3)).tolist())
        return self.inner(x)

    seen: list[list[float]] = []  # noqa: RUF012 shared with the copy that is trained


def test_each_epoch_shows_all_labelled_images_once_in_a_new_order_and_even_batches(
    toy: Backbone, colours: IndexedDataset
) -> None:
    Diary.seen.clear()
    diary = replace(toy, module=Diary(toy.module).eval())
    model = FineTunedModel(diary, 3, schedule=Schedule(stop="epochs", epochs=3, batch_size=8))
    trained(model, colours, range(25))
    assert [len(batch) for batch in Diary.seen] == [7, 6, 6, 6] * 3
    epochs = [list(chain(*Diary.seen[start : start + 4])) for start in (0, 4, 8)]
    everything = tensors(model.prepare(colours), np.arange(25)).mean(dim=(1, 2, 3)).sort().values
    for epoch in epochs:
        torch.testing.assert_close(torch.tensor(epoch).sort().values, everything)
    assert all(one != other for one, other in pairwise(epochs))


@given(n=st.integers(0, 300), size=st.integers(1, 70))
def test_even_batches_keep_the_order_and_none_is_lonely(n: int, size: int) -> None:
    batches = even_batches(np.arange(n), size)
    sizes = [len(batch) for batch in batches]
    assert [item for batch in batches for item in batch] == list(range(n))
    assert len(batches) == math.ceil(n / size)
    assert max(sizes, default=0) <= size
    assert max(sizes, default=0) - min(sizes, default=0) <= 1


# --- batch normalisation


def test_a_single_image_neither_crashes_nor_moves_the_statistics_of_a_real_network(
    colours: IndexedDataset,
) -> None:
    lite = load_backbone(image_size=32)  # whose last maps have one pixel
    model = FineTunedModel(lite, 3, schedule=Schedule(stop="epochs", epochs=2, batch_size=4))
    before = {name: t.clone() for name, t in model.network.state_dict().items() if "running" in name}
    trained(model, colours, [0])
    after = model.network.state_dict()
    assert before
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    trained(model, colours, [0, 20, 40, 1, 21])  # would be 4 and a lonely 1
    after = model.network.state_dict()
    assert not all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert all(tensor.isfinite().all() for tensor in after.values())


def test_frozen_batch_norm_treats_an_image_alike_in_any_company() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.0)).train()
    freeze_batch_norm(network)
    pixels = torch.randn(6, 3, 8, 8)
    torch.testing.assert_close(network(pixels)[:1], network(pixels[:1]))
    assert network[2].training


# --- when to stop


def test_the_loss_rule_waits_its_patience_for_a_fall_of_one_percent() -> None:
    rule = LossStalls(patience=3)
    losses = [1.0, 0.5, 0.499, 0.498, 0.494, 0.4940, 0.493, 0.4895, 0.9]
    #         best best  1%?    no     yes    1       2      3 → stop
    assert [rule.enough(loss) for loss in losses[:8]] == [False] * 7 + [True]


def test_a_loss_that_is_no_number_counts_as_not_falling() -> None:
    rule = LossStalls(patience=2)
    assert [rule.enough(loss) for loss in (math.nan, math.nan)] == [False, True]


def test_the_validation_rule_goes_back_to_the_weights_of_its_lowest_loss() -> None:
    network = nn.Linear(1, 1, bias=False)
    losses = iter([3.0, 1.0, 2.0, 2.5])
    rule = ValidationStalls(2, network, lambda: next(losses))
    for epoch in range(4):
        nn.init.constant_(network.weight, epoch)
        assert rule.enough(loss=-epoch) == (epoch == 3)  # the training loss does not matter
    rule.finish()
    assert network.weight.item() == 1


def test_the_seed_s_rule_trains_while_the_test_accuracy_rises() -> None:
    accuracies = iter([0.0, 0.3, 0.31, 0.31])
    rule = TestFalls(lambda: next(accuracies))
    assert [rule.enough(loss=1.0) for _ in range(4)] == [False, False, False, True]


def test_each_schedule_stops_for_its_own_reason(toy: Backbone, colours: IndexedDataset) -> None:
    wrong = (PixelSet(colours, toy.transform), np.arange(3), np.array([1, 2, 0]))
    still = {"learning_rate": 1e-12, "max_epochs": 9, "patience": 4}

    def epochs(stop: str, **options: float) -> float:
        schedule = Schedule(stop=stop, **(still | options))  # type: ignore[arg-type]
        return trained(FineTunedModel(toy, 3, schedule=schedule, test=wrong), colours, range(60))["epochs"]

    assert epochs("test") == 2  # the second accuracy is no higher than the first
    assert epochs("loss") == 5  # the first loss, and four that are no lower
    assert epochs("validation") == 5
    assert epochs("epochs", epochs=7) == 7
    assert epochs("epochs", epochs=12) == 12  # asked for in so many words
    assert epochs("loss", max_epochs=3) == 3


def test_too_few_labels_to_hold_any_out_stop_by_their_training_loss(
    toy: Backbone, colours: IndexedDataset
) -> None:
    schedule = Schedule(stop="validation", patience=2, learning_rate=1e-12)
    assert trained(FineTunedModel(toy, 3, schedule=schedule), colours, [0, 20, 40])["epochs"] == 3


def test_the_test_rule_needs_a_test_set(toy: Backbone) -> None:
    with pytest.raises(BadOption, match=r"stop rule 'test' needs a test set\. Give one, or use 'validation'"):
        FineTunedModel(toy, 3, schedule=Schedule(stop="test"))


@pytest.mark.parametrize("field", ["epochs", "max_epochs", "patience", "batch_size"])
def test_nothing_may_be_less_than_one(field: str) -> None:
    with pytest.raises(BadOption, match="must be at least 1"):
        Schedule(**{field: 0})


def test_an_unknown_rule_is_told_the_known_ones() -> None:
    with pytest.raises(BadOption, match=r"no training stop rule named 'never'\. Known: validation, test"):
        Schedule(stop="never")


def test_training_that_diverges_is_an_error_that_says_the_mend(
    toy: Backbone, colours: IndexedDataset
) -> None:
    model = FineTunedModel(toy, 3, schedule=replace(QUICK, learning_rate=1e30))
    with pytest.raises(BadOption, match=r"diverged at a learning rate of 1e\+30\. Use a smaller one"):
        trained(model, colours, range(60))


# --- held-out labels


@given(st.lists(st.integers(0, 6), min_size=1, max_size=80), st.integers(0, 9))
def test_the_split_holds_out_a_share_of_each_class_and_never_all_of_it(labels: list[int], seed: int) -> None:
    array = np.array(labels)
    train, held = split_stratified(array, 0.2, np.random.default_rng(seed))
    assert sorted([*train.tolist(), *held.tolist()]) == list(range(len(labels)))
    for label in set(labels):
        total, spared = labels.count(label), int((array[held] == label).sum())
        assert spared <= total - 1
        assert abs(spared - 0.2 * total) <= 0.5
    again = split_stratified(array, 0.2, np.random.default_rng(seed))[1]
    assert held.tolist() == again.tolist()


def test_the_split_of_ten_a_class_is_eight_and_two_and_depends_on_the_seed() -> None:
    labels = np.repeat([0, 1, 2], 10)
    splits = [split_stratified(labels, 0.2, np.random.default_rng(seed)) for seed in range(2)]
    for train, held in splits:
        assert np.bincount(labels[train]).tolist() == [8, 8, 8]
        assert np.bincount(labels[held]).tolist() == [2, 2, 2]
    assert splits[0][1].tolist() != splits[1][1].tolist()


# --- pixels


def test_pixels_are_the_transformed_images_in_the_order_asked(toy: Backbone, colours: IndexedDataset) -> None:
    pixels = tensors(PixelSet(colours, toy.transform), np.array([40, 2]))
    for found, image in zip(pixels, (40, 2), strict=True):
        torch.testing.assert_close(found, toy.transform(colours[image][0]))
    part = PixelSet(colours, toy.transform).subset(np.array([7, 40]))
    torch.testing.assert_close(tensors(part, np.array([1])), pixels[:1])


def test_a_vanished_file_is_black_leaves_the_pool_and_teaches_nothing(
    tmp_path: Path, toy: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = IndexedDataset(toy_images(tmp_path), test=True)
    (tmp_path / dataset.file_name(5)).unlink()
    inputs = PixelSet(dataset, toy.transform)
    assert inputs.ids.tolist() == list(range(36))
    for _ in range(2):
        assert not inputs.of(np.array([4, 5]))[1].any()
    assert inputs.ids.tolist() == [*range(5), *range(6, 36)]
    assert [message.split(":")[0] for message in caplog.messages] == [f"left out {dataset.file_name(5)}"]

    with_hole, without = (
        FineTunedModel(toy, 3, schedule=Schedule(stop="epochs", epochs=1)) for _ in range(2)
    )
    trained(with_hole, dataset, [5, 1])
    trained(without, dataset, [1])
    assert same(weights(with_hole), weights(without))


def test_images_are_decoded_once_while_there_is_room(
    toy: Backbone, colours: IndexedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Path] = []
    load = images.load
    monkeypatch.setattr(images, "load", lambda path, size: decoded.append(path) or load(path, size))
    inputs = PixelSet(colours, toy.transform, room=4 * 3 * toy.transform.size**2)
    first = np.concatenate([inputs.of(np.arange(4)), inputs.of(np.arange(4, 6))])
    assert np.array_equal(inputs.of(np.arange(6)), first)
    assert len(decoded) == 6 + 2  # the first four are kept
    part = inputs.subset(np.array([3, 2, 7]))
    part.of(np.arange(3))
    assert len(decoded) == 8 + 1


def test_augmented_images_differ_each_time_and_by_seed_alone() -> None:
    pixels = (
        torch.arange(2 * 3 * 16 * 16, dtype=torch.int64).remainder(251).to(torch.uint8).view(2, 3, 16, 16)
    )
    torch.manual_seed(0)
    one, other = augmented(pixels), augmented(pixels)
    torch.manual_seed(0)
    again = augmented(pixels)
    assert one.shape == pixels.shape
    assert one.dtype == torch.uint8
    assert not torch.equal(one, other)
    assert torch.equal(one, again)


def test_a_model_trained_on_augmented_images_learns_the_colours(
    toy: Backbone, colours: IndexedDataset
) -> None:
    plain, shaken = (
        FineTunedModel(toy, 3, schedule=replace(QUICK, augment=augment)) for augment in (False, True)
    )
    for model in (plain, shaken):
        trained(model, colours, range(0, 60, 2))
        guess = model.predict(model.prepare(colours), np.arange(1, 60, 2)).argmax(axis=1)
        assert (guess == colours.labels[1::2]).mean() > 0.9
    assert not same(weights(plain), weights(shaken))


def test_what_the_fast_runtime_predicts_is_what_the_network_predicts(
    toy: Backbone, colours: IndexedDataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VIZSLA_CACHE", str(tmp_path))
    model = FineTunedModel(toy, 3, schedule=QUICK)
    inputs = model.prepare(colours)
    for _ in range(2):
        trained(model, colours, range(30))
        expected = model.predict(inputs, np.arange(60))
        monkeypatch.setattr(finetune, "WORTH_EXPORTING", 60)
        monkeypatch.setattr(finetune, "FEWEST", 60)
        assert model._fast(inputs, 60) is not None
        assert model._fast(inputs, 59) is None
        np.testing.assert_allclose(model.predict(inputs, np.arange(60)), expected, atol=1e-3)
        monkeypatch.undo()
        monkeypatch.setenv("VIZSLA_CACHE", str(tmp_path))
