"""The other tabs, and what the page must never do: ask strangers, overflow a phone, choke on odd input."""

from __future__ import annotations

import csv
import io
import json
import shutil
from itertools import product
from pathlib import Path

import pytest

from vizsla.project import Project
from vizsla.store import Answer
from vizsla.testing import TOY_BACKBONE
from vizsla.training.trainer import Trainer

CLASSES = ["--classes", "blue,green,red"]
TABS = ("label", "grid", "review", "progress", "export")
AXE = Path(__file__).parents[2] / "page" / "node_modules" / "axe-core" / "axe.min.js"


def truth(name):
    return name[4:-4]


@pytest.fixture(scope="module")
def lesson(sixty_photos, tmp_path_factory):
    """A project with 40 true labels, one false one, and a model. Only to be copied."""
    folder = tmp_path_factory.mktemp("lesson")
    images = shutil.copytree(sixty_photos, folder / "photos")
    with Project.open(folder / "project", images) as project:
        guidelines = "What is the main colour?\nIgnore the noise."
        project.change(backbone=TOY_BACKBONE, guidelines=guidelines, audit=0.3)  # 10 checks among 41 labels
        project.add_classes(["blue", "green", "red"])
        project.scan()
        trainer, me = Trainer(project), project.store.annotator("me").id
        while trainer.step():
            pass
        for n in range(41):
            [item] = project.store.claim(me, 1)
            name = (
                truth(item.path) if n else {"blue": "red", "red": "green", "green": "blue"}[truth(item.path)]
            )
            project.store.label(me, Answer(item.image_id, name, lease_id=item.lease_id))
            trainer.step()
        project.ask_for_training()
        while trainer.step():
            pass
    shutil.rmtree(images)  # so that each copy may take its own for these
    return folder / "project"


@pytest.fixture
def taught(lesson, photos, tmp_path):
    """A copy of that project, on photos of the test's own."""
    shutil.copytree(lesson, tmp_path / "project")
    Project.open(tmp_path / "project", photos).close()
    return tmp_path / "project"


def standing(home):
    with Project.open(home) as project:
        return {label.path: (label.label, label.status) for label in project.store.labels()}


def test_each_export_comes_back_into_a_fresh_project_as_it_was(
    serve, sit_down, taught, photos, tmp_path, vizsla_here
):
    desk = sit_down(serve(photos, "--no-trainer").url, accept_downloads=True)
    desk.see("tab-export").click()
    for format in ("csv", "jsonl", "folders", "imagefolder", "label-studio", "fiftyone", "cvat"):
        with desk.page.expect_download() as download:
            desk.see(f"export-{format}").click()
        out = tmp_path / f"{format}{Path(download.value.suggested_filename).suffix}"
        download.value.save_as(out)
        fresh = tmp_path / f"fresh-{format}"
        done = vizsla_here("import", format, out, "--project", fresh, "--images", photos)
        assert done.returncode == 0, done.stderr
        assert standing(fresh) == standing(taught)
    with desk.page.expect_download() as download:
        desk.see("export-model").click()
    download.value.save_as(tmp_path / "model.safetensors")
    table = vizsla_here("predict", tmp_path / "model.safetensors", photos).stdout
    predicted = {row["file_name"]: row for row in csv.DictReader(io.StringIO(table))}
    items = json.loads(
        desk.page.evaluate(
            """async () => (await fetch('/api/queue', {method: 'POST', body: '{"n": 19}',
                headers: {'Content-Type': 'application/json'}})).text()"""
        )
    )["items"]
    served = [item for item in items if item["suggestion"]]
    assert served
    for item in served:
        for one in item["suggestion"]:
            assert abs(float(predicted[item["file_name"]][f"prob_{one['class']}"]) - one["prob"]) < 1e-4


def test_the_grid_labels_many_at_once_and_one_undo_takes_them_back(serve, sit_down, taught, photos):
    desk = sit_down(serve(photos, "--no-trainer").url)
    desk.painted()
    before = len(standing(taught))
    desk.see("tab-grid").click()
    tiles = desk.page.locator("[data-testid^=tile-]")
    tiles.first.wait_for()
    shown = tiles.count()
    assert shown > 0
    desk.see("select-all").click()
    desk.see("confirm").click()
    desk.wait_for_number("saved", before + shown)
    assert len(standing(taught)) == before + shown
    with Project.open(taught) as project:
        assert {label.source for label in project.store.labels()[:shown]} == {"bulk"}
    desk.page.keyboard.press("Control+z")
    desk.wait_for_number("saved", before)
    assert len(standing(taught)) == before


def test_review_shows_the_planted_error_first_and_mends_it(serve, sit_down, taught, photos):
    with Project.open(taught) as project:
        wrong = next(label for label in project.store.labels() if label.label != truth(label.path))
    desk = sit_down(serve(photos, "--no-trainer").url)
    desk.see("tab-review").click()
    first = desk.page.locator("[data-testid^=finding-]").first
    first.wait_for()
    assert first.get_attribute("data-testid") == f"finding-{wrong.image_id}"
    found = desk.see(f"finding-{wrong.image_id}")
    found.get_by_test_id("change").click()
    found.wait_for(state="detached")
    desk.page.wait_for_timeout(500)
    assert standing(taught)[wrong.path] == (truth(wrong.path), "labelled")


def test_a_doubted_label_is_asked_again_blindly_until_nothing_is_left_to_ask(serve, sit_down, taught, photos):
    key = {"blue": "1", "green": "2", "red": "3"}
    with Project.open(taught) as project:
        before = {label.image_id: label for label in project.store.labels()}
        wrong = next(label for label in before.values() if label.label != truth(label.path))
        count = project.store.suspects()
    desk = sit_down(serve(photos, "--no-trainer").url)
    fresh = desk.painted()
    desk.see("tab-review").click()
    desk.see("relabel").wait_for()
    assert desk.page.get_by_role("button", name=f"Ask again: {count} image").count() == 1
    desk.see("relabel").click()
    first = desk.next_after(fresh)
    assert first == wrong.image_id
    around = desk.page.locator(".stage, .reason")
    assert wrong.label not in " ".join(around.all_inner_texts())
    assert desk.see("accept").count() == desk.page.locator("[data-testid^=suggestion-]").count() == 0
    chosen = desk.page.locator(".class[aria-pressed=true]")
    assert chosen.count() == 0, "no class looks chosen"

    asked = []
    desk.page.keyboard.press(key[truth(wrong.path)])
    desk.wait_for_number("saved", len(before))
    desk.page.keyboard.press("Backspace")
    desk.page.locator(f"[data-testid=image][data-painted][data-item-id='{wrong.image_id}']").wait_for()
    assert standing(taught)[wrong.path] == (wrong.label, "labelled")
    while desk.see("asked-all").count() == 0:
        asked.append(desk.painted())
        desk.page.keyboard.press(key[truth(before[asked[-1]].path)])
        gone = f"[data-testid=image]:not([data-item-id='{asked[-1]}']), [data-testid=asked-all]"
        desk.page.locator(gone).first.wait_for()
    assert asked[0] == wrong.image_id
    assert len(asked) == len(set(asked)) == count
    desk.page.get_by_role("heading", name="Nothing left to ask again").wait_for()
    with Project.open(taught) as project:
        again = {label.image_id: label for label in project.store.labels() if label.source == "relabel"}
        assert set(again) == set(asked)
        assert all(label.label == truth(label.path) for label in again.values())
        assert all(label.suggestion_shown is False for label in again.values())
        assert project.store.counts().labelled == len(before)

    desk.see("back-to-review").click()
    desk.see("kind-disagreements").click()
    desk.see(f"finding-{wrong.image_id}").wait_for()
    assert desk.see("relabel").count() == 0
    desk.see("tab-label").click()
    assert desk.painted() not in before, "back to images that nobody has answered"
    assert desk.errors == []


def test_progress_draws_the_curve_and_a_cell_of_the_confusion_leads_to_its_images(
    serve, sit_down, taught, photos
):
    desk = sit_down(serve(photos, "--no-trainer").url)
    desk.see("tab-progress").click()
    desk.page.locator("[data-testid=curve] canvas").wait_for()
    desk.see("confusion").wait_for()
    with Project.open(taught) as project:
        wrong = next(label for label in project.store.labels() if label.label != truth(label.path))
    label = f"labelled {wrong.label}, predicted {truth(wrong.path)}"
    desk.page.locator(f"[data-testid=confusion] button[aria-label$='{label}']").click()
    desk.page.get_by_test_id(f"finding-{wrong.image_id}").wait_for()


def test_nothing_is_asked_of_anyone_but_the_server(serve, sit_down, taught, photos):
    desk = sit_down(serve(photos, "--no-trainer").url)
    desk.painted()
    for tab in TABS:
        desk.see(f"tab-{tab}").click()
        desk.page.wait_for_timeout(400)
    strangers = [url for url in desk.requests if not url.startswith((desk.url, "blob:", "data:"))]
    assert strangers == []
    assert len(desk.requests) > 20
    assert desk.errors == []


def test_every_tab_fits_and_axe_finds_nothing_serious(serve, sit_down, taught, photos):
    assert AXE.exists(), "page/node_modules is missing. Run: npm ci --prefix page"
    url = serve(photos, "--no-trainer").url
    for width, scheme in product((1280, 375), ("light", "dark")):
        check_tabs(sit_down(url, width=width, color_scheme=scheme), f"at {width} px, {scheme}")


def check_tabs(desk, how):
    desk.painted()
    desk.page.evaluate(AXE.read_text(encoding="utf-8"))
    for tab in TABS:
        desk.see(f"tab-{tab}").click()
        desk.page.wait_for_timeout(500)
        overflow = desk.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, f"{tab} is {overflow} px too wide {how}"
        found = desk.page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        serious = [
            (one["id"], node["target"], node["failureSummary"])
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]
        assert serious == [], f"{tab} {how}: {serious[:3]}"


def test_500_classes_and_a_corrupt_image_are_no_trouble(serve, sit_down, photos, tmp_path):
    for n in range(5):
        (photos / f"{n:03}-blue.png").write_bytes(b"no image at all")
    names = [f"species {n:03}" for n in range(498)] + ["<img src=x onerror=alert(1)>", "🦜 ara, großer"]
    with Project.open(tmp_path / "project", photos) as project:
        project.change(backbone=TOY_BACKBONE)
        project.add_classes(names)
    desk = sit_down(serve(photos).url)
    dialogs = []
    desk.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    for n in range(3):
        before = desk.painted()
        desk.page.keyboard.press("/")
        desk.page.keyboard.type(["species 321", "<img", "ara"][n])
        desk.page.keyboard.press("Enter")
        desk.next_after(before)
    desk.wait_for_number("saved", 3)
    assert sorted(label for label, _ in standing(tmp_path / "project").values()) == sorted(
        ["species 321", names[-2], names[-1]]
    )
    for _ in range(500):
        if desk.see("exhausted").count():
            break
        desk.page.keyboard.press("1")
        desk.page.wait_for_timeout(40)
    desk.see("exhausted").wait_for()
    desk.wait_for_number("saved", 60)  # the last answers may still be on their way
    assert dialogs == []
    with Project.open(tmp_path / "project") as project:
        counts = project.store.counts()
        assert (counts.unlabelled, counts.flagged, counts.labelled) == (0, 5, 55)


def test_a_server_that_only_shows_takes_no_answer_and_says_so(serve, sit_down, taught, photos):
    desk = sit_down(serve(photos, "--no-trainer", "--read-only").url)
    desk.see("read-only").wait_for()
    before = standing(taught)
    desk.page.keyboard.press("1")
    desk.page.wait_for_timeout(300)
    assert standing(taught) == before
    desk.see("tab-grid").click()
    desk.page.locator("[data-testid^=tile-]").first.wait_for()


def test_a_folder_that_vanished_is_said_on_the_page(serve, sit_down, taught, photos):
    server = serve(photos, "--no-trainer")
    desk = sit_down(server.url)
    desk.painted()
    photos.rename(photos.with_name("away"))
    desk.page.evaluate("fetch('/api/rescan', {method: 'POST'})")
    desk.see("notice").wait_for()
    assert "there is no folder" in desk.see("notice").inner_text()
    photos.with_name("away").rename(photos)


def test_a_stranger_is_asked_for_a_token_and_comes_in_with_it(serve, sit_down, taught, photos, vizsla_here):
    server = serve(photos, "--no-trainer", "--host", "0.0.0.0", command="serve")
    token = vizsla_here("users", "add", "ada", "--project", taught).stdout.strip()
    desk = sit_down(f"http://127.0.0.1:{server.port}/")
    desk.see("token").wait_for()
    desk.page.goto(f"http://127.0.0.1:{server.port}/?token={token}")
    desk.painted()
    assert "token" not in desk.page.url


def test_the_guidelines_can_be_read(serve, sit_down, taught, photos):
    desk = sit_down(serve(photos, "--no-trainer").url)
    desk.page.get_by_text("What is the main colour?").first.wait_for(state="attached")
