import shutil

import numpy as np
import pandas as pd
import pytest
import torch

import vizsla
from vizsla.errors import BadArray, BadOption, NoLabel, NotEnoughImages, UnknownName
from vizsla.learner import ActiveLearner
from vizsla.oracle import FilenameOracle
from vizsla.testing import TOY_BACKBONE, toy_images


@pytest.fixture
def dataset(toys):
    return vizsla.IndexedDataset(toys)


def learner_on(dataset, **options) -> ActiveLearner:
    return ActiveLearner(dataset, **{"backbone": TOY_BACKBONE, **options})


def test_a_query_labels_exactly_its_batch_with_the_true_classes(dataset):
    batch = learner_on(dataset, strategy="random").query(7)
    assert dataset.labelled().tolist() == sorted(batch.ids.tolist())
    assert all(dataset.labels[i] == dataset.folder_label(i) for i in batch.ids)


def test_a_strategy_without_a_model_to_ask_chooses_at_random_and_says_so(dataset):
    learner = learner_on(dataset, strategy="margin")
    assert learner.query(6).strategy == "random"
    learner.fit()
    assert learner.query(6).strategy == "margin"


def test_margin_asks_for_the_images_the_model_is_least_sure_of(dataset):
    learner = learner_on(dataset, strategy="margin")
    learner.query(9)
    learner.fit()
    pool = dataset.pool()
    rows = np.sort(learner.predict(pool), axis=1)
    closest = pool[np.argsort(rows[:, -1] - rows[:, -2])[:4]]
    assert learner.choose(4).ids.tolist() == closest.tolist()


def test_a_sub_pool_bounds_what_a_query_sees(dataset):
    learner = learner_on(dataset, strategy="margin", pool_size=5)
    learner.query(5)
    learner.fit()
    seen = {
        tuple(sorted(learner_on(dataset, pool_size=5, seed=s, strategy="random").choose(5).ids))
        for s in range(20)
    }
    assert len(seen) > 15


def test_the_model_learns_from_all_labels_so_far_not_just_the_newest(dataset):
    learner = learner_on(dataset, strategy="random")
    for label in range(3):  # one class per round: a learner on the newest batch would know one class only
        for idx in dataset.pool()[[dataset.folder_label(i) == label for i in dataset.pool()]][:4]:
            dataset.update_label(idx, label)
        learner.fit()
    rest = dataset.pool()
    predicted = learner.predict(rest).argmax(axis=1)
    assert (predicted == [dataset.folder_label(i) for i in rest]).mean() > 0.9


def test_a_run_goes_to_the_budget_in_batches_and_reports_each_point(dataset, tmp_path):
    test = vizsla.IndexedDataset(toy_images(tmp_path / "test", seed=9), test=True)
    curve = learner_on(dataset, strategy="margin").run(budget=17, batch=5, initial=4, test=test)
    assert curve.labels.tolist() == [4, 9, 14, 17]
    assert curve.values("accuracy")[-1] > 0.9
    assert curve.strategy == "margin"


def test_a_run_stops_at_the_target(dataset, tmp_path):
    test = vizsla.IndexedDataset(toy_images(tmp_path / "test", seed=9), test=True)
    curve = learner_on(dataset).run(budget=36, batch=4, target=0.9, test=test)
    assert curve.values()[-1] >= 0.9
    assert (curve.values()[:-1] < 0.9).all()
    assert curve.labels[-1] < 36


def test_the_same_seed_gives_the_same_curve_and_another_seed_another(dataset):
    def asked(seed: int) -> list[list[int]]:
        learner = learner_on(dataset.fresh(), seed=seed)
        learner.run(budget=20, batch=5)
        return [batch.ids.tolist() for batch in learner.batches]

    assert asked(4) == asked(4)
    assert asked(4) != asked(5)


@pytest.mark.parametrize("strategy", ["random", "margin"])
def test_a_repetition_starts_from_the_same_labels_and_goes_on_with_others(dataset, strategy):
    def asked(**options: int) -> list[list[int]]:
        learner = learner_on(dataset.fresh(), strategy=strategy, pool_size=15, seed=3, **options)
        learner.run(budget=15, batch=5, initial=5)
        return [batch.ids.tolist() for batch in learner.batches]

    plain, again, other = asked(), asked(repetition=0), asked(repetition=1)
    assert plain == again
    assert plain[0] == other[0]
    assert plain[1] != other[1]
    assert other == asked(repetition=1) != asked(repetition=2)


def test_without_first_labels_a_repetition_differs_from_its_first_choice_on(dataset):
    batches = [learner_on(dataset.fresh(), strategy="random", repetition=k).query(5) for k in range(3)]
    assert len({tuple(batch.ids.tolist()) for batch in batches}) == 3


def test_nothing_is_fitted_while_all_that_was_asked_about_are_outliers(tmp_path):
    folder = toy_images(tmp_path, classes="abcdefgh", per_class=6)
    starts = set()
    for seed in range(8):
        dataset = vizsla.IndexedDataset(folder, classes=("a", "b"))  # 12 of 48 images
        oracle = FilenameOracle(outliers=True)
        curve = learner_on(dataset, strategy="random", oracle=oracle, seed=seed).run(budget=20, batch=2)
        start = int(curve.labels[0])
        assert curve.labels.tolist() == list(range(start, 21, 2))
        assert start - 2 <= curve.values("outliers_offered")[0] < start
        assert curve.values("outliers_offered")[-1] == dataset.outliers.sum() == 20 - len(dataset.labelled())
        starts.add(start)
    assert len(starts) > 1


def test_a_budget_that_finds_nothing_but_outliers_says_so(dataset):
    learner = learner_on(dataset.with_classes([]), strategy="random", oracle=FilenameOracle(outliers=True))
    with pytest.raises(NotEnoughImages, match=r"all 3 .* none of the classes\. Use a larger --budget"):
        learner.run(budget=3, batch=2)


def test_the_order_of_files_on_disk_changes_nothing(tmp_path):
    first = toy_images(tmp_path / "a")
    second = tmp_path / "b"
    for file in sorted(first.rglob("*.png"), reverse=True):
        copy = second / file.relative_to(first)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    asked = []
    for folder in (first, second):
        learner = learner_on(vizsla.IndexedDataset(folder), seed=1)
        learner.run(budget=15, batch=5)
        asked.append([batch.ids.tolist() for batch in learner.batches])
    assert asked[0] == asked[1]


def test_your_own_model_is_asked_through_predict(dataset):
    favourite = 20

    def predict(data, ids):
        """Sure of everything but one image."""
        probs = np.tile([0.98, 0.01, 0.01], (len(ids), 1))
        probs[np.asarray(ids) == favourite] = [0.4, 0.4, 0.2]
        return probs

    learner = ActiveLearner(dataset, predict=predict, strategy="margin")
    assert learner.query(1).ids.tolist() == [favourite]
    with pytest.raises(BadOption, match="train your model yourself"):
        learner.fit()


def test_answers_can_come_from_a_csv(dataset, tmp_path):
    csv = tmp_path / "labels.csv"
    lines = [
        f"{dataset.file_name(i)},{dataset.classes[(dataset.folder_label(i) + 1) % 3]}"
        for i in range(len(dataset))
    ]
    csv.write_text("file_name,label\n" + "\n".join(lines))
    batch = learner_on(dataset, strategy="random", oracle=str(csv)).query(5)
    assert [dataset.labels[i] for i in batch.ids] == [(dataset.folder_label(i) + 1) % 3 for i in batch.ids]


@pytest.mark.parametrize(
    ("error", "message", "mistake"),
    [
        (UnknownName, "no strategy named 'bald_guess'", lambda d: learner_on(d, strategy="bald_guess")),
        (UnknownName, "no oracle named 'delphi'", lambda d: learner_on(d, oracle="delphi")),
        (UnknownName, "no backbone named 'resnet'", lambda d: learner_on(d, backbone="resnet", strategy="margin").fit()
         if not d.update_label(0, 0) else None),
        (NotEnoughImages, "batch of 99 images, but only 36", lambda d: learner_on(d).query(99)),
        (NotEnoughImages, "budget of 40 labels is more than the pool of 36", lambda d: learner_on(d).run(budget=40)),
        (NotEnoughImages, "nothing is labelled yet", lambda d: learner_on(d).fit()),
        (BadOption, "sub-pool of 3 images cannot give a batch of 4", lambda d: learner_on(d, pool_size=3).query(4)),
        (BadOption, "target accuracy needs a test set", lambda d: learner_on(d).run(budget=9, target=0.9)),
        (BadOption, "pool size of -1", lambda d: learner_on(d, pool_size=-1)),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_mend(dataset, error, message, mistake):
    with pytest.raises(error, match=message):
        mistake(dataset)


def test_a_flat_folder_without_classes_says_how_to_give_them(tmp_path):
    toy_images(tmp_path / "toys", classes=("only",))
    flat = vizsla.IndexedDataset(tmp_path / "toys" / "only")
    with pytest.raises(BadOption, match="classes=\\('cat', 'dog'"):
        learner_on(flat).model  # noqa: B018


def test_every_strategy_works_in_the_loop_on_a_frozen_backbone(toys):
    """Two rounds each: the first without labels, the second with a head, draws and a committee."""
    for name in vizsla.strategies:
        dataset = vizsla.IndexedDataset(toys)
        learner = learner_on(dataset, strategy=name)
        for labelled in (6, 12):
            batch = learner.query(6)
            learner.fit()
            assert len(dataset.labelled()) == labelled
        assert batch.strategy == name


def test_embeddings_of_a_model_of_ones_own_are_asked_for_and_not_made_up(toys):
    learner = ActiveLearner(
        vizsla.IndexedDataset(toys), predict=lambda _, ids: np.full((len(ids), 3), 1 / 3), strategy="badge"
    )
    with pytest.raises(BadOption, match=r"'badge' looks at embeddings.*'margin'"):
        learner.query(3)


def test_without_a_strategy_it_is_auto_and_margin_where_there_are_no_embeddings(dataset):
    assert learner_on(dataset).choose(6).strategy == "auto"
    own = ActiveLearner(dataset, predict=lambda data, ids: np.full((len(ids), 3), 1 / 3))
    assert own.choose(6).strategy == "margin"


def test_auto_asks_less_for_what_looks_like_images_of_no_class(dataset):
    colours = np.array([dataset.folder_label(i) for i in range(len(dataset))])
    learner = learner_on(dataset, strategy="auto")
    for image in np.concatenate([np.flatnonzero(colours == c)[:4] for c in (0, 1)]):
        dataset.update_label(image, colours[image])
    learner.fit()
    before = (colours[learner.choose(8).ids] == 2).sum()
    for image in np.flatnonzero(colours == 2)[:4]:
        dataset.mark_outlier(image)
    after = (colours[learner.choose(8).ids] == 2).sum()
    assert before >= 4
    assert after <= before // 2


# --- classes are names


def test_classes_of_a_test_set_that_lacks_one_are_joined_by_name_and_that_is_said(tmp_path, caplog):
    """Number 0 is cat in the pool and dog in the test set: by numbers every answer would be wrong."""
    pool = vizsla.IndexedDataset(toy_images(tmp_path / "pool", classes=("cat", "dog", "fox")))
    for name in ("dog", "fox"):
        shutil.copytree(tmp_path / "pool" / name, tmp_path / "test" / name)
    test = vizsla.IndexedDataset(tmp_path / "test", test=True)
    before = test.labels.copy()
    curve = learner_on(pool).run(budget=36, batch=36, test=test)
    assert curve.values().tolist() == [1.0]
    assert "has no image of class cat" in caplog.text
    assert test.classes == ("dog", "fox")
    assert test.labels.tolist() == before.tolist()


def test_only_labelled_images_of_a_test_set_count(dataset, tmp_path):
    test = vizsla.IndexedDataset(toy_images(tmp_path / "test", seed=9))
    for image in range(0, 36, 4):  # the others have label 0, which is none
        test.label_from_filename(image)
    assert learner_on(dataset).run(budget=36, batch=36, test=test).values().tolist() == [1.0]


def test_a_test_set_of_a_class_that_the_pool_lacks_or_without_labels_is_refused(dataset, tmp_path):
    other = toy_images(tmp_path / "test", classes=("blue", "green", "pink"))
    with pytest.raises(
        NoLabel, match=r"12 images of .* are of class 'pink', which is none of the classes blue, green, red"
    ):
        learner_on(dataset).run(budget=9, test=vizsla.IndexedDataset(other, test=True))
    with pytest.raises(NoLabel, match="test=True"):
        learner_on(dataset).run(budget=9, test=vizsla.IndexedDataset(other))


# --- what comes from outside


EVEN = np.full((36, 3), 1 / 3)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (EVEN[:18], r"shape \(36, 3\): a row for each image .* not \(18, 3\)"),
        (np.vstack([EVEN, EVEN[:1]]), r"not \(37, 3\)"),
        (np.vstack([EVEN, EVEN]), r"not \(72, 3\)"),
        (np.full((36, 2), 0.5), r"a column for each class, not \(36, 2\)"),
        (np.full((36, 5), 0.2), r"not \(36, 5\)"),
        (EVEN[:, 0], r"not \(36,\)"),
        (None, r"numbers of shape \(36, 3\), not None"),
        ({"probs": EVEN}, "not a dict"),
        ([[0.5, 0.5], [1.0]], "not a list of 2"),
        (np.full((36, 3), np.nan), "row 0 is not a probability row"),
        (EVEN - 1, "smallest entry is -0.6667"),
        (np.log(EVEN), "Pass softmax outputs, not logits"),
    ],
)
def test_probabilities_of_another_shape_or_none_at_all_are_refused(dataset, answer, message):
    with pytest.raises(BadArray, match=f"what predict returned.*{message}"):
        ActiveLearner(dataset, predict=lambda data, ids: answer, strategy="margin").query(5)
    assert not len(dataset.labelled())


@pytest.mark.parametrize(
    "kind",
    [
        lambda probs: probs.tolist(),
        lambda probs: pd.DataFrame(probs),
        lambda probs: probs.astype(np.float16),
        lambda probs: torch.tensor(probs, requires_grad=True),
        lambda probs: torch.tensor(probs).bfloat16(),
        lambda probs: [torch.tensor(row) for row in probs],
        lambda probs: probs.astype(object),
    ],
    ids=["list", "table", "float16", "with a gradient", "bfloat16", "list of tensors", "objects"],
)
def test_probabilities_of_any_kind_give_what_the_plain_array_gives(dataset, kind):
    probs = np.random.default_rng(0).permutation(np.linspace([0.9, 0.05, 0.05], [0.5, 0.4, 0.1], 36))
    plain, other = (
        ActiveLearner(dataset, predict=lambda data, ids, given=given: given, strategy="margin").choose(5)
        for given in (probs, kind(probs))
    )
    assert set(other.ids) == set(np.argsort(probs[:, 0] - probs[:, 1])[:5])
    assert set(other.ids) == set(plain.ids)


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", None])
def test_a_batch_is_a_whole_number_of_images(dataset, n):
    with pytest.raises(BadOption, match="n must be"):
        learner_on(dataset, strategy="random").query(n)


def test_when_all_are_labelled_that_is_said(dataset):
    learner = learner_on(dataset, strategy="random")
    assert len(learner.query(36.0)) == 36
    with pytest.raises(NotEnoughImages, match="all are labelled or skipped"):
        learner.query(1)


class Sloppy:
    """An oracle that answers for other images than those it is asked about."""

    def __init__(self, answers):
        self.answers = answers

    def label(self, dataset, ids, *, round=0, source="al"):
        for idx in self.answers(ids):
            dataset.label_from_filename(idx)
        return len(ids)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (lambda ids: [], "no answer for 3 of 3 images, such as "),
        (lambda ids: ids[:2], "no answer for 1 of 3 images"),
        (lambda ids: [*ids, *(i for i in range(36) if i not in ids)], "which it was not asked about"),
    ],
)
def test_an_oracle_that_leaves_images_out_or_labels_others_is_found(dataset, answers, message):
    with pytest.raises(NoLabel, match=message):
        learner_on(dataset, strategy="random", oracle=Sloppy(answers)).query(3)
