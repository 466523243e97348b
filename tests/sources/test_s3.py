"""Buckets: a real S3 server on loopback, filled by boto3."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import fsspec
import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from vizsla.data.indexed import IndexedDataset
from vizsla.data.kept import Kept
from vizsla.data.remote import Bucket, Remote
from vizsla.errors import NoImages, Unreachable
from vizsla.models.backbones import load_backbone
from vizsla.models.embed import embed
from vizsla.project import Project
from vizsla.store import Answer
from vizsla.testing import TOY_BACKBONE, toy_images
from vizsla.training.trainer import Trainer
from vizsla.web.app import create_app
from vizsla.web.door import Door

COLOURS = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250)}


@pytest.fixture(scope="module")
def toys_in_s3(s3, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A bucket with toys in class folders, and the folder that holds the same. Only to be read."""
    folder = toy_images(tmp_path_factory.mktemp("s3") / "toys", per_class=8)
    objects = {
        f"toys/{file.relative_to(folder).as_posix()}": file.read_bytes() for file in folder.rglob("*.png")
    }
    return s3.fill("toys", objects) + "/toys", folder


@pytest.fixture
def photos(s3, png: Callable[..., bytes]) -> str:
    """A bucket of this test alone with a photo of each colour, under a prefix."""
    name = f"photos-{uuid4()}"
    s3.fill(name, {f"some/{colour}.png": png(colour, side=40) for colour in COLOURS})
    return name


def test_a_bucket_lists_every_image_under_its_prefix_whatever_it_is_called(s3, far: Remote, png) -> None:
    names = ["a b/ä+?#%&=~.png", "a b/2.JPG", "x/y/z.webp", "top.png"]
    others = [".hidden/a.png", "x/.b.png", "__MACOSX/a.png", "x/notes.txt", "x/"]
    url = s3.fill(
        "names", {f"photos/{name}": png() for name in names + others} | {"photos-2/other.png": png()}
    )
    source = Bucket(f"{url}/photos/", far)
    assert source.names() == tuple(sorted(names))
    assert all(source.read(name) == png() for name in names)
    assert source.class_names() == ["a b", "x"]


def test_a_data_set_in_a_bucket_has_the_labels_and_features_of_the_same_folder(
    toys_in_s3, far: Remote, tmp_path: Path
) -> None:
    url, folder = toys_in_s3
    there, here = IndexedDataset(Bucket(url, far), test=True), IndexedDataset(folder, test=True)
    assert (there.classes, there.labels.tolist()) == (here.classes, here.labels.tolist())
    backbone = load_backbone(TOY_BACKBONE)
    one, other = embed(there, backbone, cache=tmp_path / "a"), embed(here, backbone, cache=tmp_path / "b")
    assert one.sha256 == other.sha256
    assert np.array_equal(one.vectors, other.vectors)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://there-is-no-such-bucket/x", "there is no s3://there-is-no-such-bucket/x. Check the address."),
        ("s3://toys/nothing-here", "there is no s3://toys/nothing-here. Check the address."),
        (
            "s3://toys/toys/red/000.png",
            "s3://toys/toys/red/000.png is a single file. Give the folder that holds the images.",
        ),
    ],
)
def test_what_is_not_there_is_said_in_one_line(url: str, said: str, toys_in_s3, far: Remote) -> None:
    with pytest.raises(NoImages) as told:
        Bucket(url, far).visit()
    assert str(told.value) == said


def test_who_has_no_credentials_is_told_how_to_give_some(
    toys_in_s3, far: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    fsspec.filesystem("s3").clear_instance_cache()
    try:
        with pytest.raises(
            Unreachable, match=r"^no credentials for s3://toys/toys. .* `aws configure`; .*ANON=true\.$"
        ):
            Bucket(toys_in_s3[0], far).visit()
    finally:
        fsspec.filesystem("s3").clear_instance_cache()


# projects


@pytest.fixture
def project(photos: str, tmp_path: Path, kept: Kept) -> Iterator[Project]:
    with Project.open(tmp_path / "project", Bucket(f"s3://{photos}/some", Remote(kept))) as opened:
        opened.change(backbone=TOY_BACKBONE)
        yield opened


def ids(project: Project) -> dict[str, int]:
    return {image.path: image.id for image in project.store.images(state="present")}


def test_a_rescan_finds_what_was_added_changed_and_removed_and_reads_nothing_else(
    project: Project, s3, photos: str, png
) -> None:
    assert project.scan().added == 3
    project.store.set_hashes({image_id: project.digest(path) for path, image_id in ids(project).items()})
    assert vars(project.scan()) == {
        "added": 0,
        "renamed": 0,
        "changed": 0,
        "missing": 0,
        "returned": 0,
        "dropped": 0,
    }
    before = ids(project)
    content = s3.get(photos, "some/red.png")
    s3.client.put_object(Bucket=photos, Key="some/red.png", Body=content)  # the same again is no change
    s3.client.put_object(Bucket=photos, Key="some/green.png", Body=png((1, 2, 3), side=40))
    s3.client.put_object(Bucket=photos, Key="some/new.png", Body=png("white", side=7))
    s3.client.delete_object(Bucket=photos, Key="some/blue.png")
    assert vars(project.scan()) == {
        "added": 1,
        "renamed": 0,
        "changed": 1,
        "missing": 1,
        "returned": 0,
        "dropped": 0,
    }
    assert ids(project)["red.png"] == before["red.png"]
    assert ids(project)["green.png"] != before["green.png"]


def test_a_moved_object_keeps_its_label(project: Project, s3, photos: str) -> None:
    project.scan()
    project.add_classes(["warm", "cold"])
    project.store.set_hashes({image_id: project.digest(path) for path, image_id in ids(project).items()})
    project.store.label(project.store.annotator("me").id, Answer(ids(project)["red.png"], "warm"))
    content = s3.get(photos, "some/red.png")
    s3.client.delete_object(Bucket=photos, Key="some/red.png")
    s3.client.put_object(Bucket=photos, Key="some/deep/er/rot.png", Body=content)
    assert project.scan().renamed == 1
    assert [(label.path, label.label) for label in project.store.labels()] == [("deep/er/rot.png", "warm")]


def test_a_project_remembers_its_bucket_and_belongs_to_no_other(
    project: Project, photos: str, toys_in_s3, tmp_path: Path
) -> None:
    project.scan()
    with Project.open(tmp_path / "project") as again:
        assert again.source.address == f"s3://{photos}/some"
        assert again.name == "some"
    with pytest.raises(
        Exception, match=f"belongs to the images in s3://{photos}/some. Use another --project"
    ):
        Project.open(tmp_path / "project", toys_in_s3[0])


@pytest.fixture
def page(project: Project) -> Iterator[TestClient]:
    project.add_classes(["red", "green", "blue"])
    with TestClient(create_app(project), base_url="http://localhost:8050") as client:
        yield client


def test_the_page_shows_the_objects_through_our_server_and_takes_labels(
    page: TestClient, project: Project, wait_until
) -> None:
    wait_until(lambda: len(ids(project)) == 3)
    items = page.post("/api/queue", json={"n": 3}).json()["items"]
    for item in items:
        colour = item["file_name"].removesuffix(".png")
        for url in (item["image_url"], item["image_url"].replace("?", "/thumb?")):
            shown = (
                Image.open(io.BytesIO(page.get(url).content)).convert("RGB").resize((1, 1)).getpixel((0, 0))
            )
            expected = Image.new("RGB", (1, 1), colour).getpixel((0, 0))
            assert max(abs(a - b) for a, b in zip(shown, expected, strict=True)) < 12
        answer = {
            "item_id": item["item_id"],
            "label": colour,
            "status": "labelled",
            "key": f"{item['item_id']:032x}",
        }
        assert page.post("/api/labels", json=answer).status_code == 201
    assert {label.path: label.label for label in project.store.labels()} == {f"{c}.png": c for c in COLOURS}


def test_an_object_that_was_deleted_or_overwritten_is_not_shown_as_what_it_was(
    page: TestClient, project: Project, s3, photos: str, png, wait_until
) -> None:
    wait_until(lambda: len(ids(project)) == 3)
    red, green = ids(project)["red.png"], ids(project)["green.png"]
    assert page.get(f"/api/images/{green}").status_code == 200
    s3.client.delete_object(Bucket=photos, Key="some/red.png")
    s3.client.put_object(Bucket=photos, Key="some/green.png", Body=png("black", side=40))
    assert page.get(f"/api/images/{red}").status_code == 410
    wait_until(lambda: project.store.image(green).sha256 is not None)
    page.post("/api/rescan")
    wait_until(
        lambda: project.store.image(red).state == "missing" and project.store.image(green).state == "missing"
    )
    assert page.get(f"/api/images/{green}").status_code == 410


def test_with_signed_urls_the_browser_is_sent_to_the_bucket_for_large_pictures_only(
    project: Project, s3, photos: str
) -> None:
    project.scan()
    image = ids(project)["red.png"]
    door = Door(pictures_from=s3.endpoint)
    with TestClient(create_app(project, door), base_url="http://localhost:8050") as client:
        large = client.get(f"/api/images/{image}", follow_redirects=False)
        assert large.status_code == 307
        assert f"img-src 'self' {s3.endpoint} blob: data:" in large.headers["Content-Security-Policy"]
        with urllib.request.urlopen(large.headers["Location"]) as answer:
            assert answer.read() == s3.get(photos, "some/red.png")
        assert client.get(f"/api/images/{image}/thumb", follow_redirects=False).status_code == 200


def test_the_trainer_learns_from_a_bucket(toys_in_s3, tmp_path: Path, kept: Kept) -> None:
    with Project.open(tmp_path / "project", Bucket(toys_in_s3[0], Remote(kept))) as project:
        project.change(backbone=TOY_BACKBONE)
        project.scan()
        assert [one.name for one in project.store.classes()] == ["blue", "green", "red"]
        me = project.store.annotator("me").id
        for item in project.store.claim(me, 12):
            project.store.label(
                me, Answer(item.image_id, item.path.partition("/")[0], lease_id=item.lease_id)
            )
    with Project.open(tmp_path / "project") as project:  # as the worker does, which has listed nothing
        project.source.base.remote = Remote(kept)
        trainer = Trainer(project)
        while trainer.step():
            pass
        assert project.store.model().labels_used == 12


# the command line


def test_features_go_to_a_bucket_and_come_back_as_they_were(toys_in_s3, s3, vizsla_here, monkeypatch) -> None:
    url, folder = toys_in_s3
    s3.fill("features", {})
    for name in ("a.npy", "b.parquet"):
        done = vizsla_here("embed", url, "--backbone", TOY_BACKBONE, "--out", f"s3://features/deep/{name}")
        assert done.returncode == 0, done.stderr
    assert s3.keys("features") == {"deep/a.npy", "deep/a.csv", "deep/b.parquet"}
    local = embed(IndexedDataset(folder, check=False), load_backbone(TOY_BACKBONE))
    assert np.array_equal(np.load(io.BytesIO(s3.get("features", "deep/a.npy"))), local.vectors)
    chosen = [
        vizsla_here(
            "select", "--strategy", "coreset", "--embeddings", f"s3://features/deep/{name}", "-n", 5, "--json"
        ).stdout
        for name in ("a.npy", "b.parquet")
    ]
    assert chosen[0] == chosen[1]
    assert len(set(json.loads(chosen[0]))) == 5


def test_commands_on_a_bucket_that_is_not_there_end_with_one_line_and_code_2(
    s3, vizsla_here, tmp_path: Path
) -> None:
    for command in (
        ("embed", "s3://nowhere/x", "--backbone", TOY_BACKBONE),
        ("label", "s3://nowhere/x", "--project", tmp_path / "p"),
        ("compare", "s3://nowhere/x", "--out", tmp_path / "out"),
        ("select", "--strategy", "coreset", "--embeddings", "s3://nowhere/x.npy", "-n", 5),
    ):
        done = vizsla_here(*command)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("vizsla: there is no s3://nowhere/x")


def test_serving_a_bucket_loads_no_torch(photos: str, tmp_path: Path, s3) -> None:
    script = f"""
import sys
import time
from fastapi.testclient import TestClient
from vizsla.project import Project
from vizsla.web.app import create_app
with Project.open({str(tmp_path / "p")!r}, "s3://{photos}/some") as project:
    project.scan()
    with TestClient(create_app(project), base_url="http://localhost:8050") as client:
        assert client.get("/api/images/1").status_code == 200
assert "torch" not in sys.modules and "torchvision" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_a_real_server_shows_a_bucket_and_signs_for_it_only_when_told_to(
    serve, s3, photos: str, tmp_path: Path
) -> None:
    url = f"s3://{photos}/some"
    for more, status in (((), 200), (("--signed-urls",), 307)):
        server = serve(url, "--classes", "red,green,blue", "--no-trainer", *more)
        with httpx.Client(base_url=server.url) as client:
            client.get("/")
            for _ in range(100):  # the bucket is listed meanwhile
                if client.get("/api/project").json()["counts"]["total"] == 3:
                    break
                time.sleep(0.1)
            answer = client.get("/api/images/1")
            assert answer.status_code == status
        assert server.said[0].startswith(f"{url} · answers go to ")
        assert server.stop() in (0, 130)
    stranger = httpx.get(answer.headers["Location"])
    assert stranger.content == s3.get(photos, "some/blue.png")  # the first of the list
