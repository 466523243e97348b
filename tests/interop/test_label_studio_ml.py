"""What a Label Studio and a backend say to each other."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from vizsla.errors import BadOption
from vizsla.interop import label_studio_ml as wire
from vizsla.interop.label_studio import label_studio_config
from vizsla.interop.label_studio_ml import Control, Origin, control_of, event_of, origin_of, prediction, said

CATS = control_of(label_studio_config(["cat", "dog"]))


def choose(*names: str, control: str = "choice") -> dict:
    return {"from_name": control, "to_name": "image", "type": "choices", "value": {"choices": list(names)}}


def test_the_interface_is_found_whatever_its_parts_are_called_and_an_alias_is_the_name():
    config = """<View><Header value="x"/><Image name="pic" value="$photo_url"/>
      <Choices name="sharp" toName="pic" choice="multiple"><Choice value="blurred"/></Choices>
      <Choices name="kind" toName="pic" showInline="true">
        <Choice value="Katze" alias="cat"/><Choice value="Großer Hund"/></Choices></View>"""
    assert control_of(config) == Control("kind", "pic", "photo_url", ("cat", "Großer Hund"))


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("<View></View>", "asks for no class"),
        ('<View><Text name="t" value="$t"/><Choices name="c" toName="t"/></View>', "asks for no class"),
        (
            '<View><Image name="i" value="$i"/><Choices name="c" toName="i" choice="multiple"/></View>',
            "several",
        ),
        ("<View>", "no XML"),
        ('<!DOCTYPE x [<!ENTITY a "aaaa">]><View>&a;</View>', "no XML"),
    ],
)
def test_an_interface_that_asks_for_no_class_is_refused_with_an_example(config, why):
    with pytest.raises(BadOption, match=why):
        control_of(config)


def test_a_project_is_the_same_however_a_request_names_it():
    named = origin_of("1.1795409547")
    assert named == origin_of({"id": 1, "created_at": "2026-11-23T04:52:27.167274Z"}) == Origin(1, named.mark)
    assert origin_of(1) == origin_of({"id": 1}) == Origin(1, "1")
    assert origin_of("1.1795409547") != origin_of("1.1795409548")  # another Label Studio's first project
    assert origin_of("1." + "9" * 300).mark == "1"
    assert named.answer(5) != origin_of(1).answer(5)
    for nonsense in (None, "", "x.1", {"created_at": "2026"}, [1]):
        with pytest.raises(BadOption, match="no project"):
            origin_of(nonsense)


def test_an_event_carries_tasks_and_annotations_one_or_many():
    one = event_of({"action": "ANNOTATION_CREATED", "project": 1, "annotation": {"id": 4}, "task": {"id": 2}})
    many = event_of(
        {"action": "ANNOTATIONS_CREATED", "project": 1, "annotation": [{"id": 4}], "task": [{"id": 2}]}
    )
    assert one and many and one.annotations == many.annotations == [{"id": 4}]
    assert one.tasks == many.tasks == [{"id": 2}]
    gone = event_of(
        {"action": "ANNOTATIONS_DELETED", "project": {"id": 1}, "annotations": [{"id": 4}, {"id": 5}]}
    )
    assert gone and gone.deletes and len(gone.annotations) == 2
    assert event_of({"action": "PROJECT_UPDATED", "project": {"id": 1}}) is None
    assert event_of({}) is None


def test_an_annotation_says_the_class_of_its_own_control_who_and_when():
    annotation = {
        "result": [choose("blurred", control="sharp"), choose("dog")],
        "completed_by": 3,
        "lead_time": 2.5,
        "created_at": "2026-01-02T03:04:05Z",
        "updated_at": "2026-01-02T03:04:06Z",
        "parent_prediction": 8,
    }
    now = said(annotation, CATS)
    assert (now.status, now.label, now.annotator, now.lead_ms) == ("labelled", "dog", "Label Studio 3", 2500)
    assert now.at == datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)
    assert now.from_suggestion and not said({"result": [choose("dog")]}, CATS).from_suggestion
    assert said({"completed_by": {"id": 3, "email": "a@b.co"}}, CATS).annotator == "a@b.co"


def test_a_cancelled_annotation_is_a_skip_and_one_without_a_single_class_says_nothing():
    assert said({"was_cancelled": True, "result": []}, CATS).status == "skipped"
    for result in ([], [choose()], [choose("cat", "dog")], [choose("blurred", control="sharp")], None):
        now = said({"result": result}, CATS)
        assert (now.status, now.label) == ("", None)


def test_a_prediction_offers_the_likeliest_class_that_the_interface_has():
    likely = [("bird", 0.5), ("dog", 0.4), ("cat", 0.1)]
    assert prediction(CATS, likely, 0.25, "vizsla-3", "k") == {
        "result": [choose("dog") | {"id": "k", "score": 0.4}],
        "score": 0.25,
        "model_version": "vizsla-3",
    }
    assert prediction(CATS, None, 1.0, "vizsla-3", "k")["result"] == []
    assert prediction(CATS, [("bird", 1.0)], 1.0, "vizsla-3", "k")["result"] == []


def test_a_class_is_predicted_in_the_spelling_of_the_interface():
    control = Control("choice", "image", "image", ("Cafe\u0301 ",))  # decomposed, with a blank
    [result] = prediction(control, [("Café", 0.9)], 0.0, "v", "k")["result"]
    assert result["value"] == {"choices": ["Cafe\u0301 "]}


def test_an_image_goes_by_all_the_names_that_its_task_has():
    task = {"id": 3, "data": {"photo": "/data/upload/1/1a2b3c4d-a.jpg", "file_name": "x/a.jpg"}, "meta": None}
    row = wire.image_row(task, Control("c", "i", "photo", ()))
    assert (row.file_name, row.other_names) == ("x/a.jpg", ("/data/upload/1/1a2b3c4d-a.jpg",))
    assert wire.image_row({"id": 3}, CATS).file_name == ""
