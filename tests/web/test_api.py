"""The calls of the page, each as the contract says."""

import io
import json
import os
import zipfile
from uuid import uuid4

import pytest
from PIL import Image

from vizsla.project import Project
from vizsla.store import Ranked
from vizsla.training.trainer import Trainer
from vizsla.web.pictures import Pictures


def queue(client, n=5, **more):
    return client.post("/api/queue", json={"n": n, **more}).json()["items"]


def test_a_project_says_how_everything_stands(client):
    found = client.get("/api/project").json()
    assert found["counts"] == {"total": 60, "unlabelled": 60, "labelled": 0, "skipped": 0, "flagged": 0}
    assert [(one["name"], one["labelled"], one["position"]) for one in found["classes"]] == [
        ("blue", 0, 0),
        ("green", 0, 1),
        ("red", 0, 2),
    ]
    assert found["model"] is found["accuracy"] is found["advice"] is None
    assert found["training"]["labels_to_next"] == 5
    assert found["checks"] == {"done": 0, "needed": 10}


def test_a_reload_shows_the_same_image_and_an_answer_takes_it_away(client, answer):
    first = queue(client)
    assert len({item["item_id"] for item in first}) == 5
    assert [item["item_id"] for item in queue(client)] == [item["item_id"] for item in first]
    reply = client.post("/api/labels", json=answer(first[0], lease_id=first[0]["lease_id"]))
    assert (reply.status_code, reply.json()["saved"]) == (201, 1)
    assert [item["item_id"] for item in queue(client, 4)] == [item["item_id"] for item in first[1:]]


def test_what_is_not_kept_is_given_back_and_the_rest_follows_the_new_ranking(client, project):
    first = queue(client)
    wanted = [image.id for image in project.store.images() if image.id not in {i["item_id"] for i in first}][
        :3
    ]
    project.store.publish_ranking(None, [Ranked(image_id, 1.0, "unsure") for image_id in wanted])
    kept = [item["lease_id"] for item in first[:2]]
    again = queue(client, keep=kept)
    assert [item["item_id"] for item in again] == [item["item_id"] for item in first[:2]] + wanted


def test_the_same_key_is_the_same_answer(client, answer):
    [item] = queue(client, 1)
    body = answer(item)
    first, again = client.post("/api/labels", json=body), client.post("/api/labels", json=body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert client.get("/api/project").json()["counts"]["labelled"] == 1


def test_a_key_that_named_another_answer_is_refused_and_nothing_is_lost(client, answer):
    one, two = queue(client, 2)
    body = answer(one)
    first = client.post("/api/labels", json=body).json()
    for other in (
        {"item_id": two["item_id"]},
        {"label": "blue"},
        {"label": None, "status": "skipped"},
    ):
        for reply in (
            client.post("/api/labels", json=body | other),
            client.post("/api/labels/batch", json=[answer(two), body | other]),
        ):
            assert reply.status_code == 409
            assert reply.json()["detail"] == (
                f"the key {body['key']} names another answer already, of image {one['item_id']} (red); "
                "this one was not saved. Make a new key for each answer."
            )
    for step in ("undo", "redo"):
        assert client.post(f"/api/{step}", json={"key": body["key"]}).status_code == 409
    again = client.post("/api/labels", json=body)
    assert (again.status_code, again.json()) == (200, first)
    assert client.get("/api/project").json()["counts"]["labelled"] == 1


def test_the_description_says_where_a_key_is_refused(client):
    paths = client.get("/openapi.json").json()["paths"]
    refusing = {path for path, calls in paths.items() if "409" in calls.get("post", {}).get("responses", {})}
    assert refusing == {"/api/labels", "/api/labels/batch", "/api/undo", "/api/redo"}


def test_a_batch_is_all_or_nothing_and_one_undo_takes_it_back(client, answer):
    items = queue(client, 5)
    broken = [answer(item) for item in items[:4]] + [answer(items[4], "purple")]
    assert client.post("/api/labels/batch", json=broken).status_code == 422
    assert client.get("/api/project").json()["counts"]["labelled"] == 0
    good = client.post("/api/labels/batch", json=[answer(item) for item in items])
    assert (good.status_code, [one["saved"] for one in good.json()]) == (201, [1, 2, 3, 4, 5])
    assert len(client.post("/api/undo").json()["labels"]) == 5
    assert client.get("/api/project").json()["counts"]["labelled"] == 0


def test_undo_brings_the_image_back_first_and_redo_answers_it_again(client, answer):
    items = queue(client, 3)
    for item in items[:2]:
        client.post("/api/labels", json=answer(item))
    undone = client.post("/api/undo", json={"key": str(uuid4())}).json()
    assert [(one["item_id"], one["status"]) for one in undone["labels"]] == [
        (items[1]["item_id"], "labelled")
    ]
    assert undone["saved"] == 1
    assert queue(client)[0]["item_id"] == items[1]["item_id"]
    redone = client.post("/api/redo").json()
    assert [(one["item_id"], one["label"]) for one in redone["labels"]] == [(items[1]["item_id"], "red")]


def test_two_cookie_jars_are_two_annotators_who_never_see_the_same_image(client_of, answer):
    mine, yours = client_of(), client_of()
    seen = [{item["item_id"] for item in queue(one, 30)} for one in (mine, yours)]
    assert len(seen[0] | seen[1]) == 60
    assert mine.get("/api/project").json()["annotator"] != yours.get("/api/project").json()["annotator"]


def test_looking_makes_no_annotator_of_anyone(client, project):
    for path in ("/", "/api/project", "/api/labels", "/api/grid", "/api/classes"):
        client.get(path)
    assert project.store.annotators() == ()


MISTAKES = {
    "an unknown image": ("/api/labels", {"item_id": 999, "label": "red"}, 404, "999"),
    "an unknown class": ("/api/labels", {"item_id": 1, "label": "rde"}, 422, "Did you mean 'red'?"),
    "a label of a skip": (
        "/api/labels",
        {"item_id": 1, "label": "red", "status": "skipped"},
        422,
        "no label",
    ),
    "no label": ("/api/labels", {"item_id": 1}, 422, "needs a label"),
    "a status nobody knows": (
        "/api/labels",
        {"item_id": 1, "label": "red", "status": "maybe"},
        422,
        "status",
    ),
    "no key": ("/api/labels", {"item_id": 1, "label": "red", "key": None}, 422, "key"),
    "false as a number": ("/api/queue", {"n": False}, 422, "n:"),
    "too many": ("/api/queue", {"n": 101}, 422, "n:"),
    "a field nobody knows": ("/api/queue", {"m": 1}, 422, "m:"),
    "a class without a name": ("/api/classes", {"name": "  "}, 422, "visible letter"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_with_its_mend_and_nothing_is_written(client, project, mistake):
    path, body, status, said = MISTAKES[mistake]
    key = {"key": str(uuid4())} if path == "/api/labels" and "key" not in body else {}
    reply = client.post(path, json=body | key)
    assert (reply.status_code, said in reply.json()["detail"]) == (status, True), reply.json()
    assert project.store.history() == []


def test_a_body_that_is_no_json_is_a_400(client):
    reply = client.post("/api/queue", content=b'{"n":', headers={"content-type": "application/json"})
    assert (reply.status_code, "JSON" in reply.json()["detail"]) == (400, True)


@pytest.mark.parametrize("name", ["great dane", "🐕 犬", "<img src=x onerror=alert(1)>", "a/b", "50%"])
def test_a_class_of_any_name_is_added_answered_with_renamed_and_merged(client, answer, name):
    from urllib.parse import quote

    added = client.post("/api/classes", json={"name": name})
    assert (added.status_code, added.json()) == (201, {"name": name, "labelled": 0, "position": 3})
    assert client.post("/api/classes", json={"name": name}).status_code == 200
    [item] = queue(client, 1)
    client.post("/api/labels", json=answer(item, name))
    renamed = client.patch(f"/api/classes/{quote(name, safe='')}", json={"name": "other"})
    assert renamed.json() == {"name": "other", "labelled": 1, "position": 3}
    assert client.patch("/api/classes/other", json={"merge_into": "red"}).json()["labelled"] == 1
    [label] = client.get("/api/labels").json()["items"]
    assert label["label"] == "red"
    assert client.patch("/api/classes/red", json={}).status_code == 422
    assert client.patch("/api/classes/nobody", json={"name": "x"}).status_code == 422


def test_labels_come_in_pages_newest_first_and_history_keeps_what_was_taken_back(client, answer):
    items = queue(client, 5)
    for item in items:
        client.post("/api/labels", json=answer(item))
    client.post("/api/undo")
    first = client.get("/api/labels?limit=3").json()
    rest = client.get(f"/api/labels?limit=3&cursor={first['next']}").json()
    ids = [one["item_id"] for one in first["items"] + rest["items"]]
    assert (ids, rest["next"]) == ([item["item_id"] for item in items[3::-1]], None)
    history = client.get("/api/labels?history=1").json()["items"]
    assert [one["status"] for one in history] == ["undone"] + ["labelled"] * 5
    mine = client.get("/api/labels?mine=1").json()["items"]
    assert [one["item_id"] for one in mine] == ids


def test_pictures_are_upright_small_enough_and_known_by_their_tag(client, project, photos):
    turned = Image.new("RGB", (3000, 1000), "red")
    turned.paste("blue", (0, 0, 100, 1000))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the left edge is the top
    turned.save(photos / "turned.jpg", exif=exif)
    project.scan()
    image_id = next(image.id for image in project.store.images() if image.path == "turned.jpg")
    reply = client.get(f"/api/images/{image_id}")
    picture = Image.open(io.BytesIO(reply.content))
    assert picture.size == (533, 1600)
    assert picture.getpixel((266, 5))[2] > 200 > picture.getpixel((266, 1500))[2]
    assert max(Image.open(io.BytesIO(client.get(f"/api/images/{image_id}/thumb").content)).size) == 256
    again = client.get(f"/api/images/{image_id}", headers={"If-None-Match": reply.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def bomb(path):
    """A PNG that says it has 30,000 × 30,000 pixels."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    )


def test_bad_files_are_answered_flagged_and_out_of_the_queue(client, project, photos):
    bomb(photos / "bomb.png")
    whole = (photos / "000-blue.png").read_bytes()
    (photos / "half.png").write_bytes(whole[: len(whole) // 2])
    (photos / "none.jpg").write_text("<svg onload=alert(1)>")
    project.scan()
    ids = {image.path: image.id for image in project.store.images()}
    for name, said in {"bomb.png": "million pixels", "half.png": "half.png", "none.jpg": "damaged"}.items():
        reply = client.get(f"/api/images/{ids[name]}")
        assert (reply.status_code, said in reply.json()["detail"]) == (415, True), reply.text
    assert client.get("/api/project").json()["counts"]["flagged"] == 3
    assert not {ids[name] for name in ("bomb.png", "half.png", "none.jpg")} & {
        item["item_id"] for item in queue(client, 100)
    }


def test_a_replaced_file_is_another_image_and_a_vanished_one_is_gone(client, project, photos, answer):
    [item] = queue(client, 1)
    path = photos / item["file_name"]
    client.get(item["image_url"])
    project.store.set_hashes({item["item_id"]: project.digest(item["file_name"])})
    Image.new("RGB", (9, 9), "white").save(path)
    reply = client.get(item["image_url"])
    assert (reply.status_code, "another picture" in reply.json()["detail"]) == (409, True)
    path.unlink()
    assert client.get(f"/api/images/{item['item_id']}/thumb").status_code == 410
    assert client.post("/api/labels", json=answer(item)).status_code == 201  # what was seen may be answered


def test_the_grid_shows_what_the_model_thinks_and_no_random_check(client, project, answer):
    trainer = Trainer(project)
    while trainer.step():
        pass
    clusters = client.get("/api/grid?by=cluster").json()
    assert sum(one["count"] for one in clusters["groups"]) == 48  # a fifth of the queue are checks
    for item in queue(client, 30):
        client.post("/api/labels", json=answer(item, item["file_name"][4:-4]))
        trainer.step()
    grid = client.get("/api/grid?by=class&group=red&limit=5").json()
    assert all(one["suggestion"]["class"] == "red" for one in grid["items"])
    probs = [one["suggestion"]["prob"] for one in grid["items"]]
    assert probs == sorted(probs, reverse=True)
    checks = {item["item_id"] for item in queue(client, 30) if item["audit"]}
    assert checks
    assert not checks & {one["item_id"] for one in client.get("/api/grid?limit=1000").json()["items"]}
    labelled = client.get("/api/grid?by=status&group=labelled&limit=7").json()
    assert len(labelled["items"]) == 7
    rest = client.get(f"/api/grid?by=status&group=labelled&limit=100&cursor={labelled['next']}").json()
    assert len(rest["items"]) == 23


def test_review_finds_a_planted_error_and_a_planted_copy(client, project, photos, answer):
    twin = Image.open(photos / "000-blue.png")
    twin.point(lambda value: min(255, value + 1)).save(photos / "twin.png")
    project.scan()
    images = {image.path: image.id for image in project.store.images()}
    wrong = images["001-blue.png"]
    for path, image_id in images.items():
        name = "red" if image_id == wrong else "green" if path == "twin.png" else path[4:-4]
        client.post("/api/labels", json=answer({"item_id": image_id}, name))
    trainer = Trainer(project)
    while trainer.step():
        pass
    errors = client.get("/api/review").json()["items"]
    assert (errors[0]["item_id"], errors[0]["label"], errors[0]["suggestion"]["class"]) == (
        wrong,
        "red",
        "blue",
    )
    assert client.get("/api/review?label=red&predicted=blue").json()["items"][0]["item_id"] == wrong
    assert client.get("/api/review?label=blue&predicted=red").json()["items"] == []
    pair = client.get("/api/review?kind=duplicates").json()["items"][0]
    assert pair["other"]["label"] != pair["label"]
    assert {pair["item_id"], pair["other"]["item_id"]} == {images["000-blue.png"], images["twin.png"]}
    client.post("/api/labels", json=answer({"item_id": wrong}, "red"))  # no: it is right
    for _ in range(2):
        assert wrong not in {one["item_id"] for one in client.get("/api/review").json()["items"]}
        client.post("/api/labels", json=answer({"item_id": images["twin.png"]}, "blue"))
        project.ask_for_training()
        while trainer.step():
            pass


def test_review_shows_what_two_annotators_answered_differently(client_of, answer):
    mine, yours = client_of(), client_of()
    [item] = queue(mine, 1)
    mine.post("/api/labels", json=answer(item, "red"))
    yours.post("/api/labels", json=answer(item, "blue"))
    [found] = mine.get("/api/review?kind=disagreements").json()["items"]
    assert (found["item_id"], found["label"], found["text"]) == (
        item["item_id"],
        "blue",
        "me: red · me 2: blue",
    )


def test_a_doubted_label_is_asked_again_without_saying_what_it_is(client_of, project, photos, answer):
    mine, yours = client_of(), client_of()
    images = {image.path: image.id for image in project.store.images()}
    wrong = images["001-blue.png"]
    for path, image_id in list(images.items())[:50]:
        name = "red" if image_id == wrong else path[4:-4]
        mine.post("/api/labels", json=answer({"item_id": image_id}, name))
    assert queue(mine, source="relabel") == []
    trainer = Trainer(project)
    while trainer.step():
        pass
    found = mine.get("/api/review").json()["items"]
    assert mine.get("/api/project").json()["suspects"] == len(found)
    [first, *others] = queue(mine, 100, source="relabel")
    assert [first["item_id"], *(one["item_id"] for one in others)] == [one["item_id"] for one in found]
    assert first["item_id"] == wrong
    assert first["suggestion"] is None and "red" not in json.dumps(first)
    assert queue(yours, source="relabel") == []
    fresh = {one["item_id"] for one in queue(mine, 100)}
    assert fresh == set(images.values()) - set(list(images.values())[:50]), "the ordinary queue is as it was"
    mine.post("/api/labels", json=answer(first, "blue", lease_id=first["lease_id"]))
    label = mine.get("/api/labels").json()["items"][0]
    assert (label["item_id"], label["label"], label["source"]) == (wrong, "blue", "relabel")
    assert mine.get("/api/project").json()["suspects"] == len(found) - 1
    [split] = mine.get("/api/review?kind=disagreements").json()["items"]
    assert (split["item_id"], split["text"]) == (wrong, "me: red · me: blue")
    assert mine.post("/api/queue", json={"source": "audit"}).status_code == 422


def test_exports_are_files(client, answer):
    for item in queue(client, 3):
        client.post("/api/labels", json=answer(item))
    assert client.get("/api/export/csv").text.count("\n") == 4
    assert len(json.loads(client.get("/api/export/label-studio").text)) >= 3
    folders = zipfile.ZipFile(io.BytesIO(client.get("/api/export/folders").content))
    assert sum(name.startswith("red/") for name in folders.namelist()) == 3
    assert client.get("/api/export/model").status_code == 404
    unknown = client.get("/api/export/cvs")
    assert (unknown.status_code, "csv" in unknown.json()["detail"]) == (404, True)


def test_a_rescan_finds_new_photos_and_a_vanished_folder_loses_nothing(
    client, project, photos, answer, wait_until
):
    [item] = queue(client, 1)
    client.post("/api/labels", json=answer(item))
    Image.new("RGB", (9, 9), "white").save(photos / "new.png")
    assert client.post("/api/rescan").status_code == 202
    wait_until(lambda: client.get("/api/project").json()["counts"]["total"] == 61)
    away = photos.rename(photos.with_name("away"))
    client.post("/api/rescan")
    wait_until(lambda: "there is no folder" in (client.get("/api/project").json()["notice"] or ""))
    assert client.get("/api/project").json()["counts"]["labelled"] == 1
    away.rename(photos)
    client.post("/api/rescan")
    wait_until(lambda: client.get("/api/project").json()["notice"] is None)
    assert client.get("/api/project").json()["counts"] == {
        "total": 61,
        "unlabelled": 60,
        "labelled": 1,
        "skipped": 0,
        "flagged": 0,
    }


def test_a_picture_of_a_project_made_anew_has_another_address(project, client, photos, tmp_path):
    [before] = queue(client, 1)
    with Project.open(tmp_path / "anew", photos) as again:
        again.scan()
        assert Pictures(again).url(before["item_id"]) != before["image_url"]


def test_an_answer_makes_its_picture_known_even_where_it_was_never_shown(project, client, answer):
    one, two, three = queue(client, 3)
    client.post("/api/labels", json=answer(one))
    client.post("/api/labels/batch", json=[answer(two), answer(three)])
    known = project.store.hashes([one["item_id"], two["item_id"], three["item_id"]])
    assert known == {
        item["item_id"]: project.digest(project.store.image(item["item_id"]).path)
        for item in (one, two, three)
    }


def test_pictures_that_swap_names_are_never_shown_for_each_other(project, client, answer, photos):
    one, two = queue(client, 2)
    before = [client.get(item["image_url"]).content for item in (one, two)]
    client.post("/api/labels/batch", json=[answer(one), answer(two)])
    first, second = (photos / project.store.image(item["item_id"]).path for item in (one, two))
    times = [(path.stat().st_atime_ns, path.stat().st_mtime_ns) for path in (first, second)]
    first.rename(photos / "x")
    second.rename(first)
    (photos / "x").rename(second)
    os.utime(first, ns=times[0])
    os.utime(second, ns=times[1])
    assert [client.get(item["image_url"]).status_code for item in (one, two)] == [409, 409]
    assert project.scan().renamed == 2
    assert [client.get(item["image_url"]).content for item in (one, two)] == before


def test_text_that_no_json_holds_is_shown_all_the_same(project, client, photos):
    project.change(guidelines="gr\udcfcn")
    (photos / "b\udce9po.png").write_bytes(b"no image")
    project.scan()
    shown = client.get("/api/project")
    assert (shown.status_code, shown.json()["guidelines"]) == (200, r"gr\xfcn")
    odd = next(image.id for image in project.store.images() if image.path == "b\udce9po.png")
    reply = client.get(f"/api/images/{odd}")
    assert (reply.status_code, r"b\xe9po.png" in reply.json()["detail"]) == (415, True)


@pytest.mark.parametrize(
    "query", ["cursor=0:99999999999999999999", "by=cluster&group=²", f"by=cluster&group={'9' * 30}"]
)
def test_a_cursor_or_group_that_cannot_be_is_a_422(client, query):
    assert client.get(f"/api/grid?{query}").status_code in (200, 422)


def test_corrections_count_towards_the_next_model_as_the_trainer_counts_them(client, project, answer):
    trainer = Trainer(project)
    items = queue(client, 10)
    for item in items:
        client.post("/api/labels", json=answer(item, truth(item)))
    while trainer.step():
        pass
    assert client.get("/api/project").json()["training"]["labels_to_next"] == 5
    for item in items[:3]:
        client.post("/api/labels", json=answer(item, "red" if truth(item) != "red" else "blue"))
    assert client.get("/api/project").json()["training"]["labels_to_next"] == 2


def truth(item):
    return item["file_name"][4:-4]
