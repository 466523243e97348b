"""Images behind a real web server: listing, fetching, and what happens when connections fail."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.registry import _registry
from torch.utils.data import DataLoader

from vizsla.data import images
from vizsla.data.folders import scan
from vizsla.data.indexed import IndexedDataset
from vizsla.data.kept import Kept
from vizsla.data.remote import Bucket, Remote
from vizsla.data.sources import source_of
from vizsla.errors import BadOption, NoImages, Unreachable
from vizsla.models.backbones import load_backbone
from vizsla.models.embed import embed
from vizsla.testing import TOY_BACKBONE


def test_a_page_of_links_is_a_source_with_the_names_and_classes_of_its_folders(web, far: Remote) -> None:
    (web.folder / "red" / "ä b#?%.png").write_bytes((web.folder / "red" / "000.png").read_bytes())
    (web.folder / "red" / "notes.txt").write_text("no image")
    source = Bucket(f"{web.url}/", far)
    assert source.names() == scan(web.folder)
    assert source.class_names() == ["blue", "green", "red"]
    for name in ("red/000.png", "red/ä b#?%.png"):
        assert source.read(name) == (web.folder / name).read_bytes()


def test_a_data_set_from_the_web_has_the_pixels_of_the_folder(web, far: Remote) -> None:
    dataset, local = IndexedDataset(Bucket(web.url, far), test=True), IndexedDataset(web.folder, test=True)
    assert dataset.classes == local.classes
    assert dataset.labels.tolist() == local.labels.tolist()
    assert all(dataset[i][0].tobytes() == local[i][0].tobytes() for i in range(len(local)))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_reads_it_also_in_processes_of_its_own(web, far: Remote, workers: int) -> None:
    dataset = IndexedDataset(Bucket(web.url, far), transform=np.array, check=False)
    batches = list(DataLoader(dataset, batch_size=9, num_workers=workers))
    assert np.concatenate([index for _, _, index in batches]).tolist() == list(range(18))
    first = images.load(web.folder / dataset.file_name(0))
    assert np.array_equal(batches[0][0][0], np.asarray(first))


def test_what_was_fetched_is_not_asked_for_again_not_even_by_another_process_s_source(
    web, kept: Kept
) -> None:
    first = Bucket(web.url, Remote(kept))
    once = [first.read(name) for name in first.names()]
    web.asked.clear()
    again = Bucket(web.url, Remote(Kept(kept.folder, kept.limit)))
    assert [again.read(name) for name in again.names()] == once
    assert web.asked == []


def test_a_changed_file_is_fetched_anew(web, far: Remote) -> None:
    source, file = Bucket(web.url, far), web.folder / "red" / "000.png"
    source.names()
    before = source.read("red/000.png")
    file.write_bytes((web.folder / "blue" / "000.png").read_bytes())
    os.utime(file, (time.time() + 5,) * 2)
    source.names()
    assert source.read("red/000.png") == file.read_bytes() != before


@pytest.mark.parametrize("faults", [["drop"], ["cut"], ["503", "drop", "cut", "429"]])
def test_what_fails_is_asked_for_again(web, far: Remote, faults: list[str]) -> None:
    source = Bucket(web.url, far)
    source.names()
    web.faults = list(faults)
    web.asked.clear()
    assert source.read("red/000.png") == (web.folder / "red" / "000.png").read_bytes()
    assert len(web.asked) == len(faults) + 1


@pytest.mark.parametrize(
    ("status", "kind"), [("404", FileNotFoundError), ("410", FileNotFoundError), ("403", PermissionError)]
)
def test_what_is_gone_or_forbidden_is_asked_for_once(
    web, far: Remote, status: str, kind: type[OSError]
) -> None:
    source = Bucket(web.url, far)
    source.names()
    web.faults = [status]
    web.asked.clear()
    with pytest.raises(kind):
        source.read("red/000.png")
    assert len(web.asked) == 1


def test_many_images_are_on_their_way_at_once(web, far: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, waiting, enough = threading.Lock(), [0], threading.Event()
    send_head = web.server.RequestHandlerClass.func.send_head

    def answer_once_ten_have_asked(handler):
        with lock:
            waiting[0] += 1
            if waiting[0] == 10:
                enough.set()
        assert enough.wait(30)
        return send_head(handler)

    dataset = IndexedDataset(Bucket(web.url, far), check=False)
    monkeypatch.setattr(web.server.RequestHandlerClass.func, "send_head", answer_once_ten_have_asked)
    assert len(embed(dataset, load_backbone(TOY_BACKBONE)).ids) == 18
    assert enough.is_set()


def test_after_a_lost_connection_the_same_embedding_goes_on_where_it_stopped(
    web, kept: Kept, tmp_path: Path
) -> None:
    backbone, cache = load_backbone(TOY_BACKBONE), tmp_path / "features"
    dataset = IndexedDataset(Bucket(web.url, Remote(kept)), check=False)
    web.asked.clear()
    web.faults = [""] * 9 + ["drop"] * 10_000
    with pytest.raises(
        Unreachable, match=r"http://127.0.0.1 does not answer .* the same command goes on from there"
    ):
        embed(dataset, backbone, cache=cache, batch_size=4)
    fetched = set(web.asked[:9])
    web.faults = []
    web.asked.clear()
    dataset = IndexedDataset(Bucket(web.url, Remote(kept)), check=False)
    found = embed(dataset, backbone, cache=cache, batch_size=4)
    assert not fetched & set(web.asked)
    assert len(fetched) + len(set(web.asked)) == 18
    local = embed(IndexedDataset(web.folder, check=False), backbone, cache=tmp_path / "other")
    assert np.array_equal(found.vectors, local.vectors)
    assert found.sha256 == local.sha256


def test_an_embedding_of_known_images_fetches_none(web, kept: Kept, tmp_path: Path) -> None:
    backbone = load_backbone(TOY_BACKBONE)
    embed(IndexedDataset(Bucket(web.url, Remote(kept)), check=False), backbone, cache=tmp_path)
    web.asked.clear()
    nothing_kept = Remote(Kept(tmp_path / "empty", limit=0))
    found = embed(IndexedDataset(Bucket(web.url, nothing_kept), check=False), backbone, cache=tmp_path)
    assert len(found.ids) == 18
    assert web.asked == []


def test_broken_and_vanished_images_are_left_out_and_said_why(web, far: Remote) -> None:
    (web.folder / "red" / "000.png").write_bytes(b"no image")
    dataset = IndexedDataset(Bucket(web.url, far), check=False)
    (web.folder / "red" / "001.png").unlink()
    found = embed(dataset, load_backbone(TOY_BACKBONE))
    reasons = {dataset.file_name(image): reason for image, reason in found.unreadable.items()}
    assert set(reasons) == {"red/000.png", "red/001.png"}
    assert "it is damaged" in reasons["red/000.png"]
    assert reasons["red/001.png"].startswith("it cannot be fetched: ")


def test_a_server_that_is_not_there_is_named_in_one_line(web_of: Callable, tmp_path: Path) -> None:
    web = web_of(tmp_path)
    web.close()
    with pytest.raises(Unreachable, match=r"^http://127.0.0.1 does not answer .*$"):
        Bucket(f"{web.url}/photos").visit()


def test_a_page_without_images_and_one_that_is_not_there_say_so(web_of: Callable, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    web = web_of(tmp_path)
    with pytest.raises(NoImages, match=r"no image below .*empty"):
        Bucket(f"{web.url}/empty").names()
    with pytest.raises(NoImages, match=r"there is no http://.*/nowhere. Check the address."):
        Bucket(f"{web.url}/nowhere").visit()


@pytest.mark.parametrize(
    ("url", "package", "mend"),
    [
        ("s3://b", "s3fs", "'vizsla[remote]'"),
        ("gs://b", "gcsfs", "gcsfs"),
        ("http://b", "aiohttp", "'vizsla[remote]'"),
    ],
)
def test_a_missing_package_is_named_with_what_to_install(
    url: str, package: str, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(_registry, url.partition(":")[0], raising=False)  # another test may have opened one
    with pytest.raises(BadOption, match=rf"Run: pip install {mend.replace('[', '.').replace(']', '.')}\.$"):
        source_of(url).visit()


def test_what_nobody_can_open_is_refused() -> None:
    with pytest.raises(BadOption, match="nothing here opens carrier-pigeon://"):
        source_of("carrier-pigeon://loft").visit()


def test_what_has_no_signed_urls_says_so() -> None:
    with pytest.raises(BadOption, match=r"memory://\w* gives no signed URLs. Leave out --signed-urls."):
        source_of("memory://photos").signed("a.png", 60)
    with pytest.raises(BadOption, match="only buckets have signed URLs"):
        source_of("photos").signed("a.png", 60)


def test_a_file_url_is_the_folder_or_list_itself(tmp_path: Path) -> None:
    folder = tmp_path / "my photos"
    assert source_of(folder.as_uri()).path == folder
    assert source_of((tmp_path / "list.csv").as_uri()).path == tmp_path / "list.csv"


def test_any_file_system_of_fsspec_will_do(far: Remote) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/shelf/red/a.png": b"one", "/shelf/blue/b.png": b"other", "/shelf/notes.txt": b""})
    source = Bucket("memory://shelf", far)
    assert source.names() == ("blue/b.png", "red/a.png")
    assert source.read("red/a.png") == b"one"


def test_far_away_the_same_is_left_out_as_here(far: Remote, caplog: pytest.LogCaptureFixture) -> None:
    memory = fsspec.filesystem("memory")
    names = [
        "train/cat/a.png",
        "test/dog/b.png",
        "#recycle/c.png",
        "test/.cache/x/d.png",
        "test/.cache/e.png",
    ]
    memory.pipe({f"/left-out/{name}": b"one" for name in (*names, "f.ppm", "test/g.JP2", "h.txt", "._a.png")})
    source = Bucket("memory://left-out", far)
    assert source.names() == ("test/dog/b.png", "train/cat/a.png")
    assert source.left_out == tuple(caplog.messages)
    assert caplog.messages == [
        "left out 1 .ppm, 1 .jp2: not supported",
        "left out 1 hidden folder: test/.cache",
        "left out 1 hidden image: ._a.png",
        "left out 1 system folder: #recycle",
    ]
    assert list(source.class_names()) == ["cat", "dog"]
    assert list(source.with_splits(False).class_names()) == ["test", "train"]


def test_a_page_that_may_not_be_seen_is_left_out_and_named(
    web, far: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    (web.folder / "#recycle").mkdir()
    (web.folder / "#recycle" / "old.png").write_bytes((web.folder / "red" / "000.png").read_bytes())
    (web.folder / "red" / "more.ppm").touch()
    web.forbidden_pages = {"green"}
    source = Bucket(web.url, far)
    assert {name.partition("/")[0] for name in source.names()} == {"blue", "red"}
    assert caplog.messages == [
        "left out 1 .ppm: not supported",
        "left out 1 folder that cannot be read: green (HTTP status 403)",
        "left out 1 system folder: #recycle",
    ]
    web.forbidden_pages = {""}
    with pytest.raises(NoImages, match="may not be read"):
        source.names()
