from __future__ import annotations

import logging
import pickle
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

from vizsla.data.indexed import IndexedDataset
from vizsla.errors import NoImages, NoLabel, OneClass, UnreadableImage


def paint(root: Path, *names: str) -> None:
    """Write small images; the one at place i is grey of value i among the sorted names."""
    for value, name in enumerate(sorted(names)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (value, value, value)).save(root / name)


DOGS = ("0_chow/a.png", "0_chow/b.png", "1_collie/a.png", "1_collie/deep/b.png", "2_whippet/a.png")


@pytest.fixture
def dogs(tmp_path: Path) -> Path:
    paint(tmp_path / "dogs", *DOGS)
    return tmp_path / "dogs"


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    paint(tmp_path / "flat", "a.png", "b.png", "c.png")
    return tmp_path / "flat"


# --- reading


def test_an_item_is_its_image_label_and_index(dogs: Path) -> None:
    dataset = IndexedDataset(dogs, test=True)
    assert len(dataset) == 5
    for i, label in enumerate([0, 0, 1, 1, 2]):
        image, read, index = dataset[i]
        assert (image.getpixel((0, 0)), read, index) == ((i, i, i), label, i)


def test_iterating_ends_after_the_last_image(dogs: Path) -> None:
    assert [index for _, _, index in IndexedDataset(dogs)] == [0, 1, 2, 3, 4]


def test_a_training_set_starts_with_nothing_labelled(dogs: Path) -> None:
    dataset = IndexedDataset(str(dogs))
    assert dataset.dir_path == str(dogs)
    assert dataset.image_filenames == [str(dogs / name) for name in DOGS]
    assert dataset.classes == ("chow", "collie", "whippet")
    assert dataset.labels.tolist() == [0] * 5
    assert dataset.unlabeled_mask.tolist() == [1] * 5
    assert dataset.pool().tolist() == [0, 1, 2, 3, 4]
    assert dataset.labelled().tolist() == []
    assert dataset.labels.dtype == dataset.unlabeled_mask.dtype == dataset.pool().dtype == np.int64


def test_a_test_set_is_labelled_by_its_folders(dogs: Path) -> None:
    dataset = IndexedDataset(dogs, test=True)
    assert dataset.labels.tolist() == [0, 0, 1, 1, 2]
    assert dataset.unlabeled_mask.tolist() == [0] * 5
    assert dataset.pool().tolist() == []
    assert dataset.labelled().tolist() == [0, 1, 2, 3, 4]


def test_file_names_and_ids_lead_to_each_other(dogs: Path) -> None:
    dataset = IndexedDataset(dogs)
    assert [dataset.file_name(i) for i in range(5)] == list(DOGS)
    assert [dataset.index_of(name) for name in DOGS] == [0, 1, 2, 3, 4]
    with pytest.raises(NoImages, match=r"no image '0_chow/z\.png' in "):
        dataset.index_of("0_chow/z.png")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_collates_it(workers: int, dogs: Path) -> None:
    dataset = IndexedDataset(dogs, transforms.ToTensor(), test=True)
    spawn = "spawn" if workers else None  # spawned workers get the data set pickled
    loader = DataLoader(dataset, batch_size=3, num_workers=workers, multiprocessing_context=spawn)
    images, labels, ids = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert ids.tolist() == [0, 1, 2, 3, 4]
    assert labels.tolist() == [0, 0, 1, 1, 2]
    assert torch.equal((images * 255).round()[:, 1, 5, 7], torch.arange(5.0))


def test_pickling_keeps_the_labels(dogs: Path) -> None:
    dataset = IndexedDataset(dogs)
    dataset.update_label(4, 2)
    dataset.skip(1)
    twin = pickle.loads(pickle.dumps(dataset))
    assert twin.labels.tolist() == [0, 0, 0, 0, 2]
    assert twin.pool().tolist() == [0, 2, 3]
    assert twin.index_of("1_collie/a.png") == 2


# --- classes


def test_a_test_folder_can_share_the_training_folder_s_numbers(tmp_path: Path) -> None:
    paint(tmp_path / "train", "ant/a.png", "bee/a.png", "cow/a.png")
    paint(tmp_path / "test", "bee/a.png", "cow/a.png")
    train = IndexedDataset(tmp_path / "train")
    assert IndexedDataset(tmp_path / "test", test=True).labels.tolist() == [0, 1]
    assert IndexedDataset(tmp_path / "test", test=True, classes=train.classes).labels.tolist() == [1, 2]


def test_a_test_folder_that_lacks_a_number_has_the_classes_of_the_training_folder(tmp_path: Path) -> None:
    paint(tmp_path / "train", "0_ant/a.png", "1_bee/a.png", "2_cow/a.png")
    paint(tmp_path / "test", "0_ant/a.png", "2_cow/a.png")
    train = IndexedDataset(tmp_path / "train")
    assert train.classes == ("ant", "bee", "cow")
    given = IndexedDataset(tmp_path / "test", test=True, classes=train.classes)
    assert given.labels.tolist() == [0, 2]
    alone = IndexedDataset(tmp_path / "test").with_classes(train.classes)
    assert [alone.folder_label(i) for i in range(2)] == [0, 2]
    fewer = train.with_classes(IndexedDataset(tmp_path / "test").classes)
    assert (fewer.classes, [fewer.has_class(i) for i in range(3)]) == (
        ("0_ant", "2_cow"),
        [True, False, True],
    )


def test_splits_are_no_classes_unless_one_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paint(tmp_path, "Train/cat/a.png", "Train/dog/b.png", "test/dog/indoors/c.png", "banner.png")
    dataset = IndexedDataset(tmp_path)
    assert (dataset.classes, dataset.splits) == (("cat", "dog"), ("Train", "test"))
    labelled = ["Train/cat/a.png", "Train/dog/b.png", "test/dog/indoors/c.png"]
    assert [dataset.folder_label(dataset.index_of(name)) for name in labelled] == [0, 1, 1]
    assert not dataset.has_class(dataset.index_of("banner.png"))
    assert caplog.messages == [
        "Train, test are splits, not classes; the classes are the folders below: cat, dog. "
        "If that is wrong, use --no-splits, in Python splits=False."
    ]
    caplog.clear()
    plain = IndexedDataset(tmp_path, splits=False)
    assert (plain.classes, plain.splits, caplog.messages) == (("Train", "test"), (), [])
    assert IndexedDataset(plain.source).classes == ("Train", "test")
    assert IndexedDataset(dataset.source, splits=False).classes == ("Train", "test")
    assert dataset.source.class_of("Train/cat/a.png") == "cat"


def test_splits_without_class_folders_are_a_flat_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paint(tmp_path, "train/a.png", "train/b.png", "test/c.png")
    assert IndexedDataset(tmp_path).classes == ()
    assert "test, train are splits, not classes; no class folders lie below." in caplog.text
    assert IndexedDataset(tmp_path, classes=["cat", "dog"]).classes == ("cat", "dog")
    with pytest.raises(NoLabel, match=r"^test/c\.png lies in no class folder"):
        IndexedDataset(tmp_path, test=True)


def test_what_is_left_out_is_said_once_for_each_kind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paint(tmp_path, "a.png", "#recycle/b.png")
    (tmp_path / "c.ppm").touch()
    assert len(IndexedDataset(tmp_path)) == 1
    assert caplog.messages == [
        "left out 1 .ppm: not supported",
        "left out 1 system folder: #recycle",
    ]


def test_a_folder_outside_the_given_classes_is_an_error_that_names_both(tmp_path: Path) -> None:
    paint(tmp_path, "bee/a.png", "dog/a.png")
    with pytest.raises(NoLabel, match=r"'dog' .* not among the classes ant, bee"):
        IndexedDataset(tmp_path, test=True, classes=("ant", "bee"))


def test_a_flat_folder_has_the_classes_it_is_given(flat: Path) -> None:
    assert IndexedDataset(flat).classes == ()
    assert IndexedDataset(flat, classes=["cat", "dog"]).classes == ("cat", "dog")


def test_a_test_set_needs_two_class_folders(tmp_path: Path) -> None:
    paint(tmp_path, "chow/a.png", "chow/b.png")
    with pytest.raises(OneClass, match="only one class folder, 'chow'"):
        IndexedDataset(tmp_path, test=True)
    dataset = IndexedDataset(tmp_path)
    with pytest.raises(OneClass):
        dataset.label_from_filename(0)


def test_a_test_set_names_the_first_image_without_a_class(tmp_path: Path, flat: Path) -> None:
    paint(tmp_path / "mixed", "chow/a.png", "collie/a.png", "x.png", "y.png")
    with pytest.raises(NoLabel, match=r"^x\.png lies in no class folder"):
        IndexedDataset(tmp_path / "mixed", test=True)
    with pytest.raises(NoLabel, match=r"^a\.png lies in no class folder"):
        IndexedDataset(flat, test=True)


# --- labelling


def test_a_label_takes_the_image_out_of_the_pool_and_clearing_puts_it_back(dogs: Path) -> None:
    dataset = IndexedDataset(dogs)
    dataset.update_label(2, 2)
    assert (dataset.labels[2], dataset.unlabeled_mask[2], dataset[2][1]) == (2, 0, 2)
    assert dataset.pool().tolist() == [0, 1, 3, 4]
    assert dataset.labelled().tolist() == [2]
    dataset.clear_label(2)
    assert (dataset.labels[2], dataset.unlabeled_mask[2]) == (0, 1)
    assert dataset.pool().tolist() == [0, 1, 2, 3, 4]


def test_a_skipped_image_is_unlabelled_and_out_of_the_pool_until_answered_or_cleared(dogs: Path) -> None:
    dataset = IndexedDataset(dogs)
    dataset.update_label(0, 1)
    dataset.skip(0)
    dataset.skip(1)
    assert dataset.pool().tolist() == [2, 3, 4]
    assert dataset.labelled().tolist() == []
    assert dataset.skipped.tolist() == [True, True, False, False, False]
    dataset.update_label(0, 1)
    dataset.clear_label(1)
    assert dataset.labelled().tolist() == [0]
    assert dataset.pool().tolist() == [1, 2, 3, 4]
    assert not dataset.skipped.any()


def test_an_outlier_is_skipped_but_was_an_answer_until_it_is_labelled_cleared_or_skipped(dogs: Path) -> None:
    dataset = IndexedDataset(dogs)
    dataset.update_label(0, 1)
    dataset.skip(1)
    for idx in (2, 3, 4):
        dataset.mark_outlier(idx)
    assert dataset.pool().tolist() == []
    assert dataset.labelled().tolist() == [0]
    assert dataset.answered() == 4
    dataset.update_label(2, 0)
    dataset.clear_label(3)
    dataset.skip(4)
    assert dataset.outliers.tolist() == [False] * 5
    assert dataset.pool().tolist() == [3]
    assert dataset.answered() == 2
    dataset.mark_outlier(0)
    assert dataset.labelled().tolist() == [2]
    assert not dataset.fresh().outliers.any()


def test_the_folder_s_label_can_be_read_without_and_with_effect(dogs: Path) -> None:
    dataset = IndexedDataset(dogs)
    assert [dataset.folder_label(i) for i in range(5)] == [0, 0, 1, 1, 2]
    assert dataset.pool().tolist() == [0, 1, 2, 3, 4]
    dataset.label_from_filename(4)
    assert (dataset.labels[4], dataset.labelled().tolist()) == (2, [4])


@pytest.mark.parametrize("label", [-1, 4])
def test_labels_outside_the_classes_are_refused_and_change_nothing(label: int, dogs: Path) -> None:
    dataset = IndexedDataset(dogs)
    with pytest.raises(NoLabel, match=rf"label {label}\. Allowed: 0 \(chow\) to 2 \(whippet\)"):
        dataset.update_label(0, label)
    assert dataset.labelled().tolist() == []


def test_a_name_is_not_a_label(dogs: Path) -> None:
    with pytest.raises(NoLabel, match=r"'chow' is not a label"):
        IndexedDataset(dogs).update_label(0, "chow")  # type: ignore[arg-type]


def test_without_classes_any_label_from_0_is_taken(flat: Path) -> None:
    dataset = IndexedDataset(flat)
    dataset.update_label(1, 12)
    assert dataset.labels.tolist() == [0, 12, 0]
    with pytest.raises(NoLabel, match="0 and above"):
        dataset.update_label(1, -1)


@pytest.mark.parametrize("idx", [-1, 3])
def test_ids_outside_the_set_are_refused_everywhere(idx: int, flat: Path) -> None:
    dataset = IndexedDataset(flat)
    calls = (dataset.__getitem__, dataset.file_name, dataset.clear_label, dataset.skip, dataset.folder_label)
    for call in (
        *calls,
        dataset.display,
        lambda i: dataset.update_label(i, 0),
        lambda i: dataset.subset([i]),
    ):
        with pytest.raises(IndexError, match=rf"no image {idx}: the ids of .* are 0 to 2\."):
            call(idx)


def test_ids_and_labels_may_be_numpy_integers(dogs: Path) -> None:
    dataset = IndexedDataset(dogs)
    dataset.update_label(np.int64(1), np.int32(2))
    assert dataset[np.int64(1)][1:] == (2, 1)


# --- copies


def test_a_fresh_copy_has_nothing_labelled_and_a_life_of_its_own(dogs: Path) -> None:
    dataset = IndexedDataset(dogs)
    dataset.update_label(0, 1)
    dataset.skip(1)
    twin = dataset.fresh()
    assert twin.pool().tolist() == [0, 1, 2, 3, 4]
    assert twin.labels.tolist() == [0] * 5
    twin.update_label(4, 2)
    assert dataset.labelled().tolist() == [0]
    assert dataset.pool().tolist() == [2, 3, 4]


def test_a_subset_holds_those_images_in_that_order(dogs: Path) -> None:
    dataset = IndexedDataset(dogs, test=True)
    part = dataset.subset(np.array([4, 0, 2]))
    assert [part[i][0].getpixel((0, 0))[0] for i in range(3)] == [4, 0, 2]
    assert [part.file_name(i) for i in range(3)] == [DOGS[4], DOGS[0], DOGS[2]]
    assert part.index_of(DOGS[2]) == 2
    assert part.pool().tolist() == [0, 1, 2]
    assert [part.folder_label(i) for i in range(3)] == [2, 0, 1]
    assert part.classes == dataset.classes
    assert dataset.labelled().tolist() == [0, 1, 2, 3, 4]


def test_an_image_can_be_in_a_subset_several_times_each_with_a_label_of_its_own(dogs: Path) -> None:
    twice = IndexedDataset(dogs).subset([2, 2, 0])
    twice.update_label(1, 2)
    assert [twice.file_name(i) for i in range(3)] == [DOGS[2], DOGS[2], DOGS[0]]
    assert twice.labels.tolist() == [0, 2, 0]
    assert twice.pool().tolist() == [0, 2]


def test_with_fewer_classes_the_rest_is_numbered_anew_and_other_folders_have_none(dogs: Path) -> None:
    dataset = IndexedDataset(dogs, test=True)
    fewer = dataset.with_classes(["whippet", "chow"])
    assert fewer.classes == ("whippet", "chow")
    assert [i for i in range(5) if fewer.has_class(i)] == [0, 1, 4]
    assert [fewer.folder_label(i) for i in (0, 1, 4)] == [1, 1, 0]
    assert fewer.pool().tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(NoLabel, match=r"'1_collie' .* is not among the classes whippet, chow"):
        fewer.folder_label(2)
    assert dataset.classes == ("chow", "collie", "whippet")
    assert dataset.labels.tolist() == [0, 0, 1, 1, 2]


# --- broken files


def test_broken_files_are_left_out_named_and_logged(dogs: Path, caplog: pytest.LogCaptureFixture) -> None:
    (dogs / "0_chow/aa.jpg").write_bytes(b"")
    (dogs / "2_whippet/z.jpg").write_text("hello")
    steps: list[tuple[int, int]] = []
    with caplog.at_level(logging.WARNING, "vizsla"):
        dataset = IndexedDataset(dogs, test=True, progress=lambda done, total: steps.append((done, total)))
    assert tuple(dataset.file_name(i) for i in range(len(dataset))) == DOGS
    assert dataset.unreadable["0_chow/aa.jpg"] == "the file is empty"
    assert list(dataset.unreadable) == ["0_chow/aa.jpg", "2_whippet/z.jpg"]
    assert caplog.messages[0] == "left out 0_chow/aa.jpg: the file is empty"
    assert len(caplog.messages) == 2
    assert steps == [(n, 7) for n in range(1, 8)]


def test_the_log_names_ten_broken_files_and_counts_the_rest(
    flat: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(13):
        (flat / f"broken{n:02}.jpg").touch()
    dataset = IndexedDataset(flat)
    assert len(dataset) == 3
    assert len(dataset.unreadable) == 13
    assert caplog.messages[9].startswith("left out broken09.jpg")
    assert caplog.messages[10:] == ["left out 3 more unreadable files"]


def test_a_class_keeps_its_number_when_another_class_is_broken(tmp_path: Path) -> None:
    paint(tmp_path, "bee/a.png", "cow/a.png")
    (tmp_path / "ant").mkdir()
    (tmp_path / "ant/a.png").touch()
    dataset = IndexedDataset(tmp_path, test=True)
    assert (dataset.classes, dataset.labels.tolist()) == (("ant", "bee", "cow"), [1, 2])


def test_a_folder_of_only_broken_files_is_an_error_that_names_one(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(NoImages, match=r"none of the 1 image files .*a\.jpg: the file is empty"):
        IndexedDataset(tmp_path)


def test_without_the_check_a_broken_file_is_an_error_when_it_is_read(flat: Path) -> None:
    (flat / "b.png").write_bytes((flat / "a.png").read_bytes()[:40])
    dataset = IndexedDataset(flat, check=False)
    assert (len(dataset), dataset.unreadable) == (3, {})
    with pytest.raises(UnreadableImage, match=r"b\.png"):
        dataset[1]


def test_a_file_found_broken_later_leaves_the_pool_for_good(
    flat: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = IndexedDataset(flat, check=False)
    dataset.mark_unreadable(1, "truncated")
    assert dataset.unreadable == {"b.png": "truncated"}
    assert caplog.messages == ["left out b.png: truncated"]
    dataset.clear_label(1)
    for each in (dataset, dataset.fresh(), dataset.subset([0, 1, 2])):
        assert each.pool().tolist() == [0, 2]
    dataset.fresh().mark_unreadable(0, "gone")
    assert list(dataset.unreadable) == ["b.png"]


# --- showing


def test_display_prints_the_name_and_leaves_no_figure_open(
    flat: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = matplotlib.get_backend()
    try:
        plt.switch_backend("agg")  # as on a machine without a screen
        IndexedDataset(flat).display(1)
        assert capsys.readouterr().out == "b.png\n"
        plt.switch_backend("module://matplotlib_inline.backend_inline")  # as in a notebook
        IndexedDataset(flat).display(1)
        assert capsys.readouterr().out == "b.png\nFigure(640x480)\n"
        assert plt.get_fignums() == []
    finally:
        plt.switch_backend(before)


# --- real photographs


def test_real_dogs_have_the_labels_that_their_folders_say(real_dogs: Path) -> None:
    dataset = IndexedDataset(real_dogs / "test", test=True)
    assert len(dataset) == 490
    assert dataset.unreadable == {}
    assert dataset.classes[7] == "chow"
    first_digits = [int(Path(path).parent.name[0]) for path in dataset.image_filenames]
    assert dataset.labels.tolist() == first_digits
