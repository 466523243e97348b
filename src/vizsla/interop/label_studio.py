"""Label Studio's JSON: a task per image, with what the model suggests as its prediction. In also JSON_MIN and CSV.

Images without an answer go out too, where the model suggests something: as tasks that wait for an annotation.

What Label Studio has no place for (the annotator's name, how the image was chosen) goes into the annotation's
`meta`, which Label Studio drops. A skipped or flagged image is a cancelled annotation; the flag is in the task's
`meta`, too, which it keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import IO, Any
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
_CHANGED = timedelta(seconds=1)
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
        control = _the_control(path, (columns or {}).get("label"))
        for number, task in enumerate(_tasks_in(file, path), 1):
            yield from _of_any(task, number, control)


def _tasks_in(file: IO[bytes], path: Path) -> Iterator[Any]:
    """The tasks of a file. Raises BadOption where it is no JSON, or holds none."""
    good = 0
    try:
        for task in _read_tasks(Stream(file)):
            good += _is_task(task)
            yield task
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadOption):  # of whoever takes the tasks
            raise
        where = f" after task {good}" if good else ""
        raise BadOption(f"{path} is no JSON{where}: {error}. Export it anew, as JSON.") from None
    if not good:
        raise BadOption(
            f"{path} holds no tasks of Label Studio. Export the project there as JSON or JSON-MIN."
        )


def _the_control(path: Path, wanted: str | None) -> str | None:
    """The control whose choices are the classes; None where no task says what it is called.

    It must be known before the first task is read: in JSON-MIN a task that was not answered lacks it, and the next
    best cell is no class. Raises BadOption where there is none of that name, or several and nobody has chosen.
    """
    asked, cells = dict[str, None](), dict[str, None]()
    with open_file(path) as file:
        for task in _tasks_in(file, path):
            if not _is_task(task):
                continue
            if "data" in task:
                asked |= dict.fromkeys(_controls(task))
            else:
                marked, words = _choices_or_words(task)
                asked |= dict.fromkeys(marked)
                cells |= dict.fromkeys(words)
    named = list(asked) or [name for name in fields.ALIASES["label"] if name in cells] or list(cells)
    if wanted is not None:
        if wanted in asked or wanted in cells:
            return wanted
        known = ", ".join(asked | cells) or "none"
        raise BadOption(f"{path} has no control named {wanted!r}. Those there are: {known}.")
    if len(named) > 1 and not (cells and named[0] in fields.ALIASES["label"]):
        what = (
            "asks for several classes of an image"
            if asked
            else "does not say which of its cells is the class"
        )
        one = named[0] if asked else "NAME"
        raise BadOption(f"{path} {what}: {', '.join(named)}. Choose one of them: --column label={one}")
    return named[0] if named else None


def _controls(task: Mapping[str, Any]) -> Iterator[str]:
    """The controls that asked for the choices in a task's annotations."""
    for answer in _list(task.get("annotations")):
        for result in _list(_dict(answer).get("result")):
            name = _dict(result).get("from_name")
            if isinstance(name, str) and "choices" in _dict(_dict(result).get("value")):
                yield name


def _choices_or_words(task: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The cells of JSON-MIN with choices in them, and those of words that nothing else explains."""
    marked = [name for name, value in task.items() if "choices" in _dict(value)]
    explained = {name for column, name in fields.columns(task).items() if column != "label"} | _JSON_MIN
    words = [name for name, value in task.items() if isinstance(value, str) and name not in explained]
    return marked, words


def _read_tasks(stream: Stream) -> Iterator[Any]:
    """The tasks of an array, or the only one."""
    if stream.next() == "[":
        yield from stream.elements()
    else:
        yield stream.value()
    stream.end()


def _of_any(task: Any, number: int, control: str | None) -> Iterator[Row | Unreadable]:
    where = f"task {task['id'] if isinstance(task, dict) and 'id' in task else number}"
    if not _is_task(task):
        yield Unreadable(where, "is no task")
    elif "data" in task:
        yield from _of_task(task, where, control)
    else:
        yield _of_cells(task, where, control)


def _is_task(task: Any) -> bool:
    if not isinstance(task, dict):
        return False
    return isinstance(task.get("data"), dict) or ("data" not in task and "file_name" in fields.columns(task))


def _of_task(task: dict[str, Any], where: str, control: str | None) -> Iterator[Row | Unreadable]:
    image = task_row(task, where, control=control)
    answers = [one for one in _list(task.get("annotations")) if isinstance(one, dict)]
    if not answers:
        yield replace(image, status="")
    for answer in answers:
        try:
            yield answer_row(image, answer, control)
        except fields.SeveralClasses:
            yield Unreadable(where, "names several classes")


def task_row(task: Mapping[str, Any], where: str, variable: str = "image", control: str | None = None) -> Row:
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
        suggestion=_hinted(hint, control),
        suggestion_prob=fields.decimal(hint.get("score")),
        where=where,
    )


def _hinted(prediction: dict[str, Any], control: str | None) -> str | None:
    try:
        return _chosen(prediction, control)
    except fields.SeveralClasses:
        return None


def answer_row(image: Row, answer: Mapping[str, Any], control: str | None = None) -> Row:
    """What an annotation says of an image. Raises SeveralClasses.

    Args: control: whose choices count; None: those of the first there is.
    """
    meta = _dict(answer.get("meta"))
    cancelled = bool(answer.get("was_cancelled"))
    seconds = fields.decimal(answer.get("lead_time"))
    return replace(
        image,
        label=None if cancelled else _chosen(answer, control),
        status=("flagged" if image.status == "flagged" or meta.get("flagged") else "skipped")
        if cancelled
        else "",
        annotator=fields.text(meta.get("annotator")) or _who(answer.get("completed_by")),
        labelled_at=given_at(answer),
        lead_ms=None if seconds is None else fields.whole(seconds * 1000),
        round=fields.whole(meta.get("round")),
        model_version=fields.whole(meta.get("model_version")),
        source=fields.text(meta.get("source")),
        suggestion_shown=fields.truth(meta.get("suggestion_shown")),
    )


def given_at(answer: Mapping[str, Any]) -> datetime | None:
    """When an annotation got the answer that it has: when it was made, or changed since.

    Label Studio notes both moments of one that was never changed, some microseconds apart.

    >>> given_at({"created_at": "2024-03-01T10:00:00.000001Z", "updated_at": "2024-03-01T10:00:00.000009Z"})
    datetime.datetime(2024, 3, 1, 10, 0, 0, 1, tzinfo=datetime.timezone.utc)
    >>> given_at({"created_at": "2024-03-01T10:00:00Z", "updated_at": "2024-04-01T10:00:00Z"}).month
    4
    """
    made, changed = (fields.moment(answer.get(name)) for name in ("created_at", "updated_at"))
    return changed if made and changed and changed - made >= _CHANGED else made


def _chosen(answer: Mapping[str, Any], control: str | None) -> str | None:
    """The class that a control was answered with; None for the control: of the first choice there is."""
    for result in map(_dict, _list(answer.get("result"))):
        value = result.get("value")
        if isinstance(value, dict) and "choices" in value and control in (None, result.get("from_name")):
            return fields.one_class(value)
    return None


def _who(completed_by: Any) -> str | None:
    if isinstance(completed_by, dict):
        return fields.text(completed_by.get("email")) or _who(completed_by.get("id"))
    return fields.text(completed_by)


def _of_cells(task: dict[str, Any], where: str, control: str | None) -> Row | Unreadable:
    """JSON_MIN: one flat object, the choice under the name that the interface gave it."""
    names = {column: name for column, name in fields.columns(task).items() if column != "label"}
    cells = {column: task[name] for column, name in names.items()}
    if control is not None:
        cells["label"] = task.get(control)
    try:
        row = fields.to_row(cells, where)
    except fields.SeveralClasses:
        return Unreadable(where, "names several classes")
    return replace(
        row,
        annotator=_who(task.get("annotator", task.get("completed_by"))),
        labelled_at=given_at(task) or row.labelled_at,
    )


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
