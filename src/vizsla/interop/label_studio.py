"""Label Studio's JSON: a task per image, with what the model suggests as its prediction. In also JSON_MIN and CSV.

Images without an answer go out too, where the model suggests something: as tasks that wait for an annotation.

What Label Studio has no place for (the annotator's name, how the image was chosen) goes into the annotation's
`meta`, which Label Studio drops. A skipped or flagged image is a cancelled annotation; the flag is in the task's
`meta`, too, which it keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from vizsla.errors import BadOption
from vizsla.interop import csv, fields
from vizsla.interop.base import Format, Row, Unreadable, formats, importers
from vizsla.interop.files import open_file
from vizsla.interop.jsonl import dump
from vizsla.interop.jsonstream import Stream
from vizsla.interop.outgoing import Outgoing
from vizsla.interop.tables import Columns, Found
from vizsla.store import Label
from vizsla.store.database import batched

FROM_NAME, TO_NAME = "choice", "image"
_TASKS = 500  # per piece
_HOTKEYS = "123456789"
_JSON_MIN = {"id", "image", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"}
_OURS = ("annotator", "source", "round", "model_version", "suggestion_shown")


def label_studio_config(classes: Iterable[str]) -> str:
    """The labelling interface for these classes, to paste into a Label Studio project.

    >>> print(label_studio_config(["cat"]))
    <View>
      <Image name="image" value="$image"/>
      <Choices name="choice" toName="image" choice="single">
        <Choice value="cat" hotkey="1"/>
      </Choices>
    </View>
    """
    keys = chain(_HOTKEYS, iter(str, None))
    choices = "".join(_choice(name, key) for name, key in zip(classes, keys, strict=False))
    return (
        f'<View>\n  <Image name="{TO_NAME}" value="$image"/>\n'
        f'  <Choices name="{FROM_NAME}" toName="{TO_NAME}" choice="single">\n{choices}  </Choices>\n</View>'
    )


def _choice(name: str, key: str) -> str:
    legal = "".join(c if c in "\t\n\r" or (c >= " " and not "\ud800" <= c <= "\udfff") else "�" for c in name)
    hotkey = f' hotkey="{key}"' if key else ""
    return f"    <Choice value={quoteattr(legal)}{hotkey}/>\n"


def write(outgoing: Outgoing) -> Iterator[bytes]:
    """A JSON array of tasks, one for each image with an answer or a suggestion."""
    between = b"[\n"
    for page in batched(_tasks(outgoing), _TASKS):
        yield between + b",\n".join(dump(task).rstrip(b"\n") for task in page)
        between = b",\n"
    yield b"[]\n" if between == b"[\n" else b"\n]\n"


def _tasks(outgoing: Outgoing) -> Iterator[dict[str, Any]]:
    for label, row in outgoing.answers():
        yield _task(label.image_id, row, [_annotation(label, row)])
    for image_id, row in outgoing.suggestions():
        yield _task(image_id, row, [])


def _task(image_id: int, row: Row, annotations: list[dict[str, Any]]) -> dict[str, Any]:
    where = quote(row.file_name.encode(errors="surrogateescape"))
    return {
        "id": image_id,
        "data": {"image": f"/data/local-files/?d={where}", "file_name": row.file_name},
        "meta": {"sha256": row.sha256} | _flag(row),
        "annotations": annotations,
        "predictions": [] if row.suggestion is None else [_prediction(row)],
    }


def _annotation(label: Label, row: Row) -> dict[str, Any]:
    when = label.created_at.isoformat().replace("+00:00", "Z")
    meta = {name: value for name in _OURS if (value := getattr(row, name)) is not None}
    return {
        "id": label.id,
        "completed_by": None,  # whoever imports it: Label Studio refuses a file that names people it lacks
        "result": [] if row.label is None else [_result(str(label.key), row.label)],
        "was_cancelled": row.status != "labelled",
        "ground_truth": False,
        "lead_time": None if row.lead_ms is None else row.lead_ms / 1000,
        "created_at": when,
        "updated_at": when,
        "parent_prediction": None,
        "meta": meta | _flag(row),
    }


def _flag(row: Row) -> dict[str, bool]:
    return {"flagged": True} if row.status == "flagged" else {}


def _prediction(row: Row) -> dict[str, Any]:
    result = _result("suggestion", row.suggestion or "") | {"origin": "prediction"}
    version = None if row.model_version is None else str(row.model_version)
    return {"model_version": version, "score": row.suggestion_prob, "result": [result]}


def _result(key: str, name: str) -> dict[str, Any]:
    return {
        "id": key,
        "from_name": FROM_NAME,
        "to_name": TO_NAME,
        "type": "choices",
        "value": {"choices": [name]},
        "origin": "manual",
    }


formats.register("label-studio")(
    Format("label-studio", ".json", "application/json", "tasks with annotations and predictions", write)
)


@importers.register("label-studio")
def read(path: Path, columns: Columns | None = None) -> Iterator[Found]:
    """an export of Label Studio as JSON, JSON_MIN or CSV"""
    with open_file(path) as file:
        start = file.peek(64)[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
        if path.suffix.lower() in (".csv", ".tsv") and start[:1] not in (b"[", b"{"):
            yield from csv.rows(file, str(path), columns)
            return
        good = 0
        try:
            for number, task in enumerate(_read_tasks(Stream(file)), 1):
                good += _is_task(task)
                yield from _of_any(task, number)
        except (ValueError, RecursionError) as error:
            where = f" after task {good}" if good else ""
            raise BadOption(f"{path} is no JSON{where}: {error}. Export it anew, as JSON.") from None
    if not good:
        raise BadOption(
            f"{path} holds no tasks of Label Studio. Export the project there as JSON or JSON-MIN."
        )


def _read_tasks(stream: Stream) -> Iterator[Any]:
    """The tasks of an array, or the only one."""
    if stream.next() == "[":
        yield from stream.elements()
    else:
        yield stream.value()
    stream.end()


def _of_any(task: Any, number: int) -> Iterator[Row | Unreadable]:
    where = f"task {task['id'] if isinstance(task, dict) and 'id' in task else number}"
    if not _is_task(task):
        yield Unreadable(where, "is no task")
    elif "data" in task:
        yield from _of_task(task, where)
    else:
        yield _of_cells(task, where)


def _is_task(task: Any) -> bool:
    if not isinstance(task, dict):
        return False
    return isinstance(task.get("data"), dict) or ("data" not in task and "file_name" in fields.columns(task))


def _of_task(task: dict[str, Any], where: str) -> Iterator[Row | Unreadable]:
    image = task_row(task, where)
    answers = [one for one in _list(task.get("annotations")) if isinstance(one, dict)]
    if not answers:
        yield replace(image, status="")
    for answer in sorted(answers, key=lambda one: str(one.get("created_at") or "")):
        try:
            yield answer_row(image, answer)
        except fields.SeveralClasses:
            yield Unreadable(where, "names several classes")


def task_row(task: Mapping[str, Any], where: str, variable: str = "image") -> Row:
    """What a task says of its image, under the given key and others of its data. It says nothing of its class."""
    data, meta = task["data"], _dict(task.get("meta"))
    names = [data.get("file_name"), data.get(variable), *data.values()]
    known = list(dict.fromkeys(name for name in names if isinstance(name, str) and name))
    sha256 = fields.text(meta.get("sha256") or data.get("sha256"))
    hint = next((one for one in _list(task.get("predictions")) if isinstance(one, dict)), {})
    return Row(
        file_name=known[0] if known else "",
        other_names=tuple(known[1:2]),
        sha256=sha256,
        status="flagged" if meta.get("flagged") else "",
        suggestion=_hinted(hint),
        suggestion_prob=fields.decimal(hint.get("score")),
        where=where,
    )


def _hinted(prediction: dict[str, Any]) -> str | None:
    try:
        return _chosen(prediction)
    except fields.SeveralClasses:
        return None


def answer_row(image: Row, answer: Mapping[str, Any]) -> Row:
    """What an annotation says of an image. Raises SeveralClasses."""
    meta = _dict(answer.get("meta"))
    cancelled = bool(answer.get("was_cancelled"))
    seconds = fields.decimal(answer.get("lead_time"))
    return replace(
        image,
        label=None if cancelled else _chosen(answer),
        status=("flagged" if image.status == "flagged" or meta.get("flagged") else "skipped")
        if cancelled
        else "",
        annotator=fields.text(meta.get("annotator")) or _who(answer.get("completed_by")),
        labelled_at=fields.moment(answer.get("created_at")),
        lead_ms=None if seconds is None else fields.whole(seconds * 1000),
        round=fields.whole(meta.get("round")),
        model_version=fields.whole(meta.get("model_version")),
        source=fields.text(meta.get("source")),
        suggestion_shown=fields.truth(meta.get("suggestion_shown")),
    )


def _chosen(answer: Mapping[str, Any]) -> str | None:
    """The class of the first choice there is, whatever the interface calls it."""
    for result in _list(answer.get("result")):
        value = _dict(result).get("value")
        if isinstance(value, dict) and "choices" in value:
            return fields.one_class(value)
    return None


def _who(completed_by: Any) -> str | None:
    if isinstance(completed_by, dict):
        return fields.text(completed_by.get("email")) or _who(completed_by.get("id"))
    return fields.text(completed_by)


def _of_cells(task: dict[str, Any], where: str) -> Row | Unreadable:
    """JSON_MIN: one flat object, the choice under the name that the interface gave it."""
    names = fields.columns(task)
    if "label" not in names:
        names |= _label_name(task, names.values())
    try:
        row = fields.to_row({column: task[name] for column, name in names.items()}, where)
    except fields.SeveralClasses:
        return Unreadable(where, "names several classes")
    return replace(row, annotator=_who(task.get("annotator", task.get("completed_by"))))


def _label_name(task: dict[str, Any], known: Iterable[str]) -> dict[str, str]:
    """Which cell is the choice: the one with choices in it, or the only one of words that nothing else explains."""
    marked = [name for name, value in task.items() if "choices" in _dict(value)]
    words = {name for name, value in task.items() if isinstance(value, str)}
    found = marked or list(words - _JSON_MIN - set(known))
    return {"label": found[0]} if len(found) == 1 else {}


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
