"""Images and store in one hand: opening, scanning, settings, labels from folders."""

import os
import shutil
import subprocess
import sys
import time

import pytest
from PIL import Image
from sqlalchemy import create_engine, text

from vizsla.data.sources import Folder
from vizsla.errors import BadOption, NoImages
from vizsla.project import Project, default_home
from vizsla.store import Answer
from vizsla.testing import toy_images


@pytest.fixture
def opened(tmp_path, toys):
    with Project.open(None, toys) as project:
        yield project


def ids(project):
    return {image.path: image.id for image in project.store.images(state="present")}


def test_a_project_lies_in_its_folder_and_is_no_image(opened, toys):
    assert opened.address == str(toys / ".vizsla")
    assert opened.scan().added == 36
    assert opened.scan().added == 0


def test_it_is_found_again_without_naming_the_images_and_after_both_were_moved(opened, toys, tmp_path):
    opened.scan()
    opened.close()
    moved = tmp_path / "elsewhere"
    shutil.move(toys, moved)
    with Project.open(moved / ".vizsla") as again:
        assert again.images.resolve() == moved.resolve()
        assert again.store.counts().total == 36


def test_a_renamed_photo_keeps_its_label_and_an_added_one_is_new(opened, toys):
    opened.scan()
    opened.add_classes(["cat", "dog"])
    before = ids(opened)["red/003.png"]
    opened.store.set_hashes({image_id: opened.digest(path) for path, image_id in ids(opened).items()})
    opened.store.label(opened.store.annotator("me").id, Answer(before, "cat"))
    (toys / "red" / "003.png").rename(toys / "a better name.png")
    Image.new("RGB", (5, 5)).save(toys / "new.png")
    found = opened.scan()
    assert (found.added, found.renamed, found.missing) == (1, 1, 0)
    assert ids(opened)["a better name.png"] == before
    assert [(label.path, label.label) for label in opened.store.labels()] == [("a better name.png", "cat")]


def frames(folder):
    """Two pictures of one size in bytes and one time, a red and a blue one."""
    folder.mkdir()
    for name, color in (("1.bmp", "red"), ("2.bmp", "blue")):
        Image.new("RGB", (8, 8), color).save(folder / name)
        os.utime(folder / name, ns=(10**18, 10**18))
    return folder


def swap(folder):
    time.sleep(0.05)  # longer than a tick of any file system's clock
    (folder / "1.bmp").rename(folder / "x")
    (folder / "2.bmp").rename(folder / "1.bmp")
    (folder / "x").rename(folder / "2.bmp")


def labels(project):
    return {label.path: label.label for label in project.store.labels()}


def test_labels_follow_frames_of_one_size_and_time_that_swap_names(tmp_path):
    folder = frames(tmp_path / "frames")
    with Project.open(None, folder) as project:
        project.scan()
        project.add_classes(["red", "blue"])
        here, me = ids(project), project.store.annotator("me").id
        project.store.label_batch(me, [Answer(here["1.bmp"], "red"), Answer(here["2.bmp"], "blue")])
        project.note_contents()
        swap(folder)
        assert (project.scan().renamed, labels(project)) == (2, {"1.bmp": "blue", "2.bmp": "red"})


def test_a_scan_reads_what_was_labelled_and_never_read(tmp_path):
    folder = frames(tmp_path / "frames")
    with Project.open(None, folder) as project:
        project.scan()
        project.add_classes(["red", "blue"])
        red = ids(project)["1.bmp"]
        project.store.label(project.store.annotator("me").id, Answer(red, "red"))
        assert project.store.hashes([1, 2]) == {}
        project.scan()
        assert project.store.hashes([1, 2]) == {red: project.digest("1.bmp")}


def test_an_answer_to_a_picture_that_was_swapped_before_anyone_read_it_is_dropped_with_a_word(
    tmp_path, caplog
):
    folder = frames(tmp_path / "frames")
    with Project.open(None, folder) as project:
        project.scan()
        project.add_classes(["red", "blue"])
        project.store.label(project.store.annotator("me").id, Answer(ids(project)["1.bmp"], "red"))
        swap(folder)
        project.note_contents()
        assert project.store.hashes([1, 2]) == {}, "what lies there now may be another picture"
        assert project.scan().dropped == 1
        assert labels(project) == {}
        assert "1 answer counts no more" in caplog.text


def test_a_folder_that_vanished_is_told_and_no_image_is_lost(opened, toys):
    opened.scan()
    toys.rename(toys.with_name("away"))
    with pytest.raises(NoImages, match="there is no folder"):
        opened.scan()
    toys.mkdir()  # as an empty mount point
    with pytest.raises(NoImages, match="no image"):
        opened.scan()
    assert opened.store.counts().total == 36


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux only: mounts")
def test_a_folder_that_may_not_be_written_is_labelled_all_the_same(toys, tmp_path, monkeypatch):
    mounts = [["mount", "--bind", str(toys), str(toys)], ["mount", "-o", "remount,ro,bind", str(toys)]]
    if os.geteuid() or any(subprocess.run(mount, capture_output=True).returncode for mount in mounts):
        pytest.skip("only root may mount")
    try:
        monkeypatch.setattr("platformdirs.user_data_dir", lambda *_, **__: str(tmp_path / "mine"))
        with Project.open(None, toys) as project:
            assert project.address.startswith(str(tmp_path / "mine"))
            assert project.scan().added == 36
        assert default_home(Folder(toys)) == default_home(Folder(toys / ".." / toys.name))
    finally:
        subprocess.run(["umount", str(toys)], check=True)


def test_class_folders_name_the_classes_but_label_nothing_unless_asked(opened):
    opened.scan()
    opened.add_classes([])
    assert opened.store.counts().classes == {"blue": 0, "green": 0, "red": 0}
    opened.change(labels="folders")
    opened.scan()
    opened.scan()
    assert opened.store.counts().classes == {"blue": 12, "green": 12, "red": 12}
    assert {label.source for label in opened.store.history()} == {"import"}
    assert len(opened.store.history()) == 36


def classes(project):
    return [one.name for one in project.store.classes()]


def test_class_folders_numbered_from_0_lose_their_numbers_and_others_keep_them(tmp_path):
    for names, found in ((("0_chihuahua", "1_chow"), ["chihuahua", "chow"]), (("10_dog", "3_cat"), None)):
        with Project.open(None, toy_images(tmp_path / names[0], classes=names)) as project:
            project.change(labels="folders")
            project.add_classes([])
            project.scan()
            assert classes(project) == (found or list(names))
            assert project.store.counts().unlabelled == 0


def test_a_project_whose_classes_lost_their_numbers_labels_by_their_folders_still(tmp_path):
    with Project.open(None, toy_images(tmp_path / "toys", classes=("3_cat", "10_dog"))) as project:
        project.add_classes(["cat", "dog"])
        project.change(labels="folders")
        project.scan()
        assert project.store.counts().classes == {"cat": 12, "dog": 12}


def test_splits_are_no_classes_unless_the_project_is_told_so(tmp_path, caplog):
    images = tmp_path / "data"
    toy_images(images / "train", classes=("cat", "dog"))
    toy_images(images / "test", classes=("cat", "dog"), seed=5)
    with Project.open(tmp_path / "one", images) as project:
        project.change(labels="folders")
        project.add_classes([])
        assert classes(project) == ["cat", "dog"]
        project.scan()
        assert project.store.counts().classes == {"cat": 24, "dog": 24}
        assert (
            "test, train are splits, not classes; the classes are the folders below: cat, dog" in caplog.text
        )
        assert "train/cat/000.png" in ids(project)
    with Project.open(tmp_path / "two", images) as project:
        project.change(labels="folders", splits=False)
        project.add_classes([])
        assert classes(project) == ["test", "train"]
    with Project.open(tmp_path / "two") as again:
        again.scan()
        assert again.store.counts().classes == {"test": 24, "train": 24}
        again.change(splits=True)
        assert list(again.source.class_names()) == ["cat", "dog"]


def test_splits_without_class_folders_name_no_classes(tmp_path):
    for split in ("train", "test"):
        toy_images(tmp_path / "toys", classes=(split,))
    with Project.open(None, tmp_path / "toys") as project:
        project.change(labels="folders")
        project.add_classes([])
        project.scan()
        assert (classes(project), project.store.counts().unlabelled) == ([], 24)


def test_what_a_scan_left_out_is_remembered_until_the_next(opened, toys):
    (toys / "photo.ppm").touch()
    (toys / "#recycle").mkdir()
    opened.scan()
    assert opened.left_out == ["left out 1 .ppm: not supported", "left out 1 system folder: #recycle"]
    (toys / "photo.ppm").unlink()
    opened.scan()
    assert opened.left_out == ["left out 1 system folder: #recycle"]


def test_settings_are_remembered_and_nonsense_is_refused(opened, toys):
    opened.change(strategy="random", target=0.9, guidelines="poodles are dogs")
    opened.change(budget=200)
    opened.close()
    with Project.open(toys / ".vizsla") as again:
        kept = again.settings
        assert (kept.strategy, kept.target, kept.budget, kept.audit) == ("random", 0.9, 200, 0.1)
        for nonsense in ({"audit": 2.0}, {"target": 90.0}, {"labels": "maybe"}):
            with pytest.raises(BadOption):
                again.change(**nonsense)


def test_a_project_of_other_images_is_not_mixed_up(opened, toys, tmp_path):
    opened.scan()
    other = toy_images(tmp_path / "others")
    with pytest.raises(BadOption, match="belongs to the images in"):
        Project.open(toys / ".vizsla", other)


def test_a_project_of_a_newer_vizsla_is_refused_and_left_as_it_is(opened, toys):
    opened.close()
    database = toys / ".vizsla" / "project.db"
    engine = create_engine(f"sqlite:///{database}")
    with engine.begin() as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(BadOption, match="newer Vizsla"):
        Project.open(None, toys)


@pytest.mark.parametrize("where", [None, "nowhere"])
def test_without_a_project_the_mend_is_said(where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadOption, match=r"vizsla label DIR|--project"):
        Project.open(where)
    assert list(tmp_path.iterdir()) == []


def test_a_class_that_was_renamed_or_merged_does_not_come_back_with_the_same_command(opened):
    opened.scan()
    opened.add_classes(["cat", "dog", "bird"])
    opened.store.rename_class("cat", "feline")
    opened.store.merge_class("bird", "dog")
    opened.add_classes(["cat", "dog", "bird", "fish"])
    assert [one.name for one in opened.store.classes()] == ["feline", "dog", "fish"]


def test_folder_labels_follow_renamed_classes_replaced_photos_and_odd_names(opened, toys):
    (toys / "red" / "caf\udce9.png").write_bytes((toys / "red" / "001.png").read_bytes())
    opened.change(labels="folders")
    opened.scan()
    opened.store.rename_class("blue", "azure")
    opened.store.set_hashes({image_id: opened.digest(path) for path, image_id in ids(opened).items()})
    Image.new("RGB", (7, 7)).save(toys / "red" / "002.png")
    opened.scan()
    counts = opened.store.counts()
    assert counts.classes == {"azure": 12, "green": 12, "red": 13}
    assert counts.unlabelled == 0


def test_a_machine_that_mounts_the_images_elsewhere_changes_nothing_for_the_others(opened, toys, tmp_path):
    other = toy_images(tmp_path / "mounted elsewhere")
    with Project.open(toys / ".vizsla", other, remember=False) as there:
        assert there.images == other
    with Project.open(toys / ".vizsla") as here:
        assert here.images.resolve() == toys.resolve()
