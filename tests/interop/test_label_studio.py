"""Label Studio's tasks, checked against its contract and against what it really sent back."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vizsla.errors import BadOption
from vizsla.interop import import_labels, label_studio_config
from vizsla.store import Answer, Ranked

if TYPE_CHECKING:
    from tests.interop.conftest import Made

    Make = Callable[..., Made]


def choice(*names: str, key: str = "x", origin: str = "manual") -> dict[str, Any]:
    return {
        "id": key,
        "from_name": "choice",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": list(names)},
        "origin": origin,
    }


def annotated(image: str, *names: str, **more: Any) -> dict[str, Any]:
    result = [choice(*names)] if names else []
    return {"id": 1, "data": {"image": image}, "annotations": [{"id": 1, "result": result, **more}]}


def imported(make: Make, path: Path, *tasks: Any) -> Made:
    project = make("a.jpg", "my photo (1).jpg", "sub/c.jpg", "other/c.jpg")
    path.write_text(json.dumps(tasks))
    import_labels(project.store, "label-studio", path)
    return project


def test_a_task_is_as_label_studio_wants_it_field_by_field(make: Make, tmp_path: Path) -> None:
    project = make("sub/ü 1.jpg")
    project.hash_all()
    store = project.store
    cat, _ = store.add_classes(["cat", "dog"])
    (image,) = store.images()
    version = store.start_model(20, "logistic", "lite0").version
    store.publish_ranking(version, [Ranked(image.id, 1.0, "unsure", suggestion=((cat.id, 0.75),))])
    ada = store.annotator("ada").id
    store.claim(ada)
    saved = store.label(ada, Answer(image.id, "dog", lead_ms=4288, suggestion_shown=False))
    (label,) = store.labels()
    (task,) = json.loads(project.export("label-studio", tmp_path).read_text("utf-8"))
    when = label.created_at.replace(tzinfo=None).isoformat() + "Z"
    assert task == {
        "id": image.id,
        "data": {"image": "/data/local-files/?d=sub/%C3%BC%201.jpg", "file_name": "sub/ü 1.jpg"},
        "meta": {"sha256": image.sha256},
        "annotations": [
            {
                "id": saved.label_id,
                "completed_by": None,
                "result": [choice("dog", key=str(label.key))],
                "was_cancelled": False,
                "ground_truth": False,
                "lead_time": 4.288,
                "created_at": when,
                "updated_at": when,
                "parent_prediction": None,
                "meta": {
                    "annotator": "ada",
                    "source": "al",
                    "round": 1,
                    "model_version": 1,
                    "suggestion_shown": False,
                },
            }
        ],
        "predictions": [
            {
                "model_version": "1",
                "score": 0.75,
                "result": [choice("cat", key="suggestion", origin="prediction")],
            }
        ],
    }


def test_skipped_and_flagged_images_are_cancelled_annotations(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg", "b.jpg")
    ids, me = project.ids(), project.store.annotator("me").id
    project.store.label(me, Answer(ids["a.jpg"], status="skipped"))
    project.store.label(me, Answer(ids["b.jpg"], status="flagged"))
    flagged, skipped = json.loads(project.export("label-studio", tmp_path).read_bytes())
    for task in (flagged, skipped):
        assert (task["annotations"][0]["was_cancelled"], task["annotations"][0]["result"]) == (True, [])
    assert flagged["meta"]["flagged"] is flagged["annotations"][0]["meta"]["flagged"] is True
    assert "flagged" not in skipped["meta"] and "flagged" not in skipped["annotations"][0]["meta"]


def test_the_config_names_every_class_and_the_first_nine_have_keys(hard: Made) -> None:
    names = [one.name for one in hard.store.classes()]
    view = ET.fromstring(label_studio_config(names))
    assert (view.tag, [child.tag for child in view]) == ("View", ["Image", "Choices"])
    assert view[0].attrib == {"name": "image", "value": "$image"}
    assert view[1].attrib == {"name": "choice", "toName": "image", "choice": "single"}
    assert [child.attrib["value"] for child in view[1]] == names
    keys = [child.attrib.get("hotkey") for child in view[1]]
    assert keys == [*"123456789", *[None] * (len(names) - 9)]


def test_characters_that_xml_cannot_hold_do_not_break_the_config() -> None:
    view = ET.fromstring(label_studio_config(["a\x01b", "c\udcffd"]))
    assert [child.attrib["value"] for child in view[1]] == ["a\ufffdb", "c\ufffdd"]


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("a.jpg", "a.jpg"),
        ("/data/upload/12/1a2b3c4d-a.jpg", "a.jpg"),
        ("/data/upload/12/1a2b3c4d-my_photo_1.jpg", "my photo (1).jpg"),
        ("http://localhost:8080/data/upload/1/0a2b3c4d-a.jpg", "a.jpg"),
        ("/data/local-files/?d=photos/sub/c.jpg", "sub/c.jpg"),
        ("/data/local-files/?d=my%20photo%20(1).jpg", "my photo (1).jpg"),
        ("https://example.org/photos/other/c.jpg?token=1#x", "other/c.jpg"),
        ("https://example.org/my%20photo%20%281%29.jpg", "my photo (1).jpg"),
        ("s3://bucket/some/where/sub/c.jpg", "sub/c.jpg"),
        ("gs://bucket/a.jpg", "a.jpg"),
        ("file:///home/me/sub/c.jpg", "sub/c.jpg"),
        ("C:\\photos\\other\\c.jpg", "other/c.jpg"),
    ],
)
def test_image_uris_find_their_image(uri: str, path: str, make: Make, tmp_path: Path) -> None:
    assert imported(make, tmp_path / "x.json", annotated(uri, "cat")).standing() == {
        path: ("labelled", "cat")
    }


def test_an_image_that_could_be_two_is_passed_over(make: Make, tmp_path: Path) -> None:
    project = make("sub/c.jpg", "other/c.jpg")
    (tmp_path / "x.json").write_text(json.dumps([annotated("s3://b/c.jpg", "cat")]))
    report = import_labels(project.store, "label-studio", tmp_path / "x.json")
    assert {name: reason.count for name, reason in report.reasons.items()} == {
        "several images are called so": 1
    }
    assert project.standing() == {}


@pytest.mark.parametrize(
    ("who", "name"), [(3, "3"), ({"id": 3, "email": "a@b.co"}, "a@b.co"), ({"id": 3}, "3"), (None, "import")]
)
def test_the_annotator_is_who_completed_it(who: Any, name: str, make: Make, tmp_path: Path) -> None:
    (label,) = imported(make, tmp_path / "x", annotated("a.jpg", "cat", completed_by=who)).store.labels()
    assert (label.annotator, label.source) == (name, "import")


def test_time_and_lead_time_are_kept(make: Make, tmp_path: Path) -> None:
    task = annotated("a.jpg", "cat", created_at="2024-05-06T07:08:09.123456Z", lead_time=4.288)
    (label,) = imported(make, tmp_path / "x", task).store.labels()
    assert (label.created_at, label.lead_ms) == (datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC), 4288)


def test_of_several_annotations_the_latest_stands_and_all_are_kept(make: Make, tmp_path: Path) -> None:
    task = annotated("a.jpg", "cat", completed_by=1, created_at="2024-01-02T00:00:00Z")
    task["annotations"] += annotated("", "dog", completed_by=2, created_at="2024-01-01T00:00:00Z")[
        "annotations"
    ]
    project = imported(make, tmp_path / "x", task)
    assert project.standing() == {"a.jpg": ("labelled", "cat")}
    assert [label.annotator for label in project.store.history()] == ["1", "2"]


def test_tasks_that_say_nothing_of_use_are_counted(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg", "b.jpg")
    boxes = {"type": "rectanglelabels", "value": {"x": 1, "rectanglelabels": ["cat"]}}
    tasks: list[Any] = [
        annotated("a.jpg", was_cancelled=True),
        annotated("b.jpg", "cat", "dog"),
        annotated("b.jpg"),
        annotated("gone.jpg", "cat"),
        {
            "id": 9,
            "data": {"image": "b.jpg"},
            "annotations": [],
            "predictions": [{"result": [choice("cat")]}],
        },
        {"id": 10, "data": {"image": "b.jpg"}, "annotations": [{"result": [boxes]}, 7, None]},
        {"id": 11, "data": {}},
        "no task",
    ]
    (tmp_path / "x.json").write_text(json.dumps(tasks))
    report = import_labels(project.store, "label-studio", tmp_path / "x.json")
    assert project.standing() == {"a.jpg": ("skipped", None)}
    assert {name: reason.count for name, reason in report.reasons.items()} == {
        "names several classes": 1,
        "has no label": 4,
        "its image is not in the project": 1,
        "is no task": 1,
    }
    assert report.skipped == 7


# As Label Studio 1.23.2 exported it, after it had imported a file of ours.
JSON = (
    '[{"id":1,"annotations":[{"id":1,"completed_by":1,"result":[],"was_cancelled":true,"ground_truth":false,'
    '"created_at":"2026-11-23T09:34:29.369892Z","updated_at":"2026-11-23T09:34:29.369969Z","draft_created_at":null,'
    '"lead_time":null,"prediction":{},"result_count":0,"import_id":6,"task":1,"project":1,"updated_by":null,'
    '"parent_prediction":null,"parent_annotation":null}],"drafts":[],"predictions":[],'
    '"data":{"image":"/data/local-files/?d=5%20%C3%BC.jpg","file_name":"5 ü.jpg"},'
    '"meta":{"sha256":null,"flagged":true},"inner_id":1,"total_annotations":0,"cancelled_annotations":1}]'
)
JSON_MIN = (
    '[{"image":"\\/data\\/local-files\\/?d=1%20%C3%BC.jpg","file_name":"1 ü.jpg","id":5,"NAME":"great \\"dane\\"",'
    '"annotator":1,"annotation_id":5,"created_at":"2026-11-23T09:34:29.370128Z",'
    '"updated_at":"2026-11-23T09:34:29.370133Z","lead_time":1.234}]'
)
CSV = (
    '"annotation_id","annotator","choice","created_at","file_name","id","image","lead_time","updated_at"\n'
    '5,"1","great ""dane""","2026-11-23T09:34:29.370128Z","1 ü.jpg",5,"/data/local-files/?d=1%20%C3%BC.jpg",1.234,'
    '"2026-11-23T09:34:29.370133Z"\n'
)


def test_a_flag_survives_label_studio(make: Make, tmp_path: Path) -> None:
    project = make("5 ü.jpg")
    (tmp_path / "x.json").write_text(JSON, "utf-8")
    import_labels(project.store, "label-studio", tmp_path / "x.json")
    assert project.standing() == {"5 ü.jpg": ("flagged", None)}


@pytest.mark.parametrize("name", ["choice", "breed", "label"])
def test_its_short_exports_are_the_same_answer(name: str, make: Make, tmp_path: Path) -> None:
    project = make("1 ü.jpg")
    (tmp_path / "x.json").write_text(JSON_MIN.replace("NAME", name), "utf-8")
    (tmp_path / "x.csv").write_text(CSV, "utf-8")
    import_labels(project.store, "label-studio", tmp_path / "x.json")
    (label,) = project.store.labels()
    assert (label.label, label.annotator, label.lead_ms) == ('great "dane"', "1", 1234)
    assert label.created_at == datetime(2026, 11, 23, 9, 34, 29, 370128, tzinfo=UTC)
    assert import_labels(project.store, "csv", tmp_path / "x.csv").taken == 0


def species_and_quality(image: str, species: str, quality: str, first: str = "species") -> dict[str, Any]:
    results = [choice(species) | {"from_name": "species"}, choice(quality) | {"from_name": "quality"}]
    results = results if first == "species" else results[::-1]
    return {"id": 1, "data": {"image": image}, "annotations": [{"id": 1, "result": results}]}


def test_two_controls_are_never_mixed_but_named_with_the_option_that_picks_one(
    make: Make, tmp_path: Path
) -> None:
    project = make("a.jpg", "b.jpg")
    tasks = [
        species_and_quality("a.jpg", "dog", "sharp"),
        species_and_quality("b.jpg", "cat", "blurred", first="quality"),
    ]
    (tmp_path / "x.json").write_text(json.dumps(tasks))
    with pytest.raises(BadOption, match=r"classes of an image: species, quality.*--column label=species$"):
        import_labels(project.store, "label-studio", tmp_path / "x.json")
    assert (project.store.classes(), project.store.history()) == ((), [])
    with pytest.raises(BadOption, match=r"no control named 'breed'. Those there are: species, quality"):
        import_labels(project.store, "label-studio", tmp_path / "x.json", columns={"label": "breed"})
    import_labels(project.store, "label-studio", tmp_path / "x.json", columns={"label": "species"})
    assert project.standing() == {"a.jpg": ("labelled", "dog"), "b.jpg": ("labelled", "cat")}
    import_labels(project.store, "label-studio", tmp_path / "x.json", columns={"label": "quality"})
    assert project.standing() == {"a.jpg": ("labelled", "sharp"), "b.jpg": ("labelled", "blurred")}


def test_controls_that_no_task_was_asked_together_are_two_all_the_same(make: Make, tmp_path: Path) -> None:
    one, two = annotated("a.jpg", "dog"), annotated("b.jpg", "sharp")
    two["annotations"][0]["result"][0]["from_name"] = "quality"
    (tmp_path / "x.json").write_text(json.dumps([one, two]))
    with pytest.raises(BadOption, match="choice, quality"):
        import_labels(make("a.jpg", "b.jpg").store, "label-studio", tmp_path / "x.json")


def short(image: str, **cells: str) -> dict[str, Any]:
    return {"id": 1, "image": image, "annotator": 1, "created_at": "2024-03-01T10:00:00Z", **cells}


def test_in_short_exports_the_control_is_chosen_where_other_words_stand_beside_it(
    make: Make, tmp_path: Path
) -> None:
    project = make("a.jpg", "b.jpg")
    tasks = [short("a.jpg", site="north", species="dog"), short("b.jpg", site="north")]
    (tmp_path / "x.json").write_text(json.dumps(tasks))
    with pytest.raises(
        BadOption, match=r"which of its cells is the class: site, species.*--column label=NAME"
    ):
        import_labels(project.store, "label-studio", tmp_path / "x.json")
    report = import_labels(project.store, "label-studio", tmp_path / "x.json", columns={"label": "species"})
    assert project.standing() == {"a.jpg": ("labelled", "dog")}  # b was not answered, whatever its site
    assert {reason: about.count for reason, about in report.reasons.items()} == {"has no label": 1}


def test_in_short_exports_the_only_words_are_the_class_and_a_task_without_has_none(
    make: Make, tmp_path: Path
) -> None:
    project = make("a.jpg", "b.jpg")
    (tmp_path / "x.json").write_text(json.dumps([short("a.jpg"), short("b.jpg", species="dog")]))
    import_labels(project.store, "label-studio", tmp_path / "x.json")
    assert project.standing() == {"b.jpg": ("labelled", "dog")}


def test_the_suggestion_is_the_chosen_controls(make: Make, tmp_path: Path) -> None:
    project = make("a.jpg")
    task = species_and_quality("a.jpg", "dog", "sharp", first="quality")
    task["predictions"] = [{"score": 0.5, "result": task["annotations"][0]["result"]}]
    (tmp_path / "x.json").write_text(json.dumps([task]))
    import_labels(project.store, "label-studio", tmp_path / "x.json", columns={"label": "species"})
    (label,) = project.store.labels()
    assert label.suggestion == ((label.class_id, 0.5),)
