"""Images that another tool has brought, beside a source."""

import shutil

import pytest

from vizsla.data.fetched import PREFIX, WithFetched
from vizsla.data.sources import Folder
from vizsla.errors import NoImages
from vizsla.project import Project


@pytest.fixture
def both(toys, tmp_path):
    return WithFetched(Folder(toys), tmp_path / "brought")


def test_what_was_brought_is_read_beside_the_others_and_the_source_stays_what_it_is(both, toys):
    content = (toys / "red" / "000.png").read_bytes()
    assert len(both.names()) == 36
    name = both.keep("0a/far.png", content)
    assert name == f"{PREFIX}0a/far.png" and set(both.names()) == {*Folder(toys).names(), name}
    assert both.read(name) == both.read("red/000.png") == content
    assert both.load(name).size == (16, 16) and both.check(name) is None
    assert both.stamp(name)[0] == len(content)
    assert both.key(name) != both.key("red/000.png") == Folder(toys).key("red/000.png")
    assert (both.address, both.title) == (Folder(toys).address, "toys")
    assert (both.class_of(name), both.class_of("red/000.png")) == (None, "red")
    assert list(both.class_names()) == ["blue", "green", "red"]


def test_a_source_without_images_will_do_where_some_were_brought(both, toys):
    shutil.rmtree(toys)
    toys.mkdir()
    with pytest.raises(NoImages):
        both.names()
    name = both.keep("far.png", b"x")
    assert both.names() == (name,)


def test_a_project_keeps_them_to_itself_and_takes_them_for_no_class(toys, tmp_path):
    content = (toys / "red" / "000.png").read_bytes()
    with Project.open(None, toys) as project:
        project.scan()
        name = project.source.keep("0a/far.png", content)
        [image_id] = project.adopt([name]).values()
        assert project.scan().missing == 0 and len(project.store.images(state="present")) == 37
        project.change(labels="folders")
        assert project.take_folder_labels() == 36
        assert project.store.image(image_id).status == "unlabelled"
        assert list(project.source.class_names()) == ["blue", "green", "red"]
        (toys / ".vizsla" / "fetched" / "0a" / "far.png").unlink()
        assert project.scan().missing == 1
        project.source.keep("0a/far.png", content)
    with Project.open(None, toys) as again:
        again.scan()
        assert again.store.image(image_id).state == "present"
    with Project.open(tmp_path / "other", toys) as other:
        assert other.scan().added == 36
