"""The calls of the labelling page. Each opens nothing, asks the store once or twice, and answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import RedirectResponse, StreamingResponse

from vizsla import interop
from vizsla.errors import BadOption
from vizsla.project import Project
from vizsla.store import Answer, Label, Saved, Store, Tile
from vizsla.web import state, wire
from vizsla.web.door import Me, Visitor, visitor
from vizsla.web.pictures import SIGNED_SECONDS, Pictures, Size
from vizsla.web.watch import Watch

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": wire.Problem, "description": what}
    for code, what in {
        400: "The body is no JSON",
        401: "No or a wrong token",
        403: "Another site asks, or the server only shows",
        404: "Nothing of that name or id",
        421: "The Host is not ours",
        422: "A value makes no sense",
        503: "The database is away for a moment, and Retry-After says when to ask again; or it may not be written",
        507: "The disk is full; ask again once there is room",
    }.items()
}

_KEY_TAKEN: dict[int | str, dict[str, Any]] = {
    409: {"model": wire.Problem, "description": "The key named something else before; nothing was written"}
}

router = APIRouter(prefix="/api", responses=_PROBLEMS)

ImageId = Annotated[int, InPath(ge=1, le=wire.INT64)]
Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[wire.Text | None, Query()]
Looking = Depends(visitor)


async def _project(request: Request) -> Project:
    found: Project = request.app.state.project
    return found


async def _store(request: Request) -> Store:
    found: Store = request.app.state.project.store
    return found


async def _watch(request: Request) -> Watch:
    found: Watch = request.app.state.watch
    return found


async def _pictures(request: Request) -> Pictures:
    found: Pictures = request.app.state.pictures
    return found


ThisProject = Annotated[Project, Depends(_project)]
ThisStore = Annotated[Store, Depends(_store)]
ThisWatch = Annotated[Watch, Depends(_watch)]
ThePictures = Annotated[Pictures, Depends(_pictures)]


# the project


@router.get("/project")
def project(project: ThisProject, watch: ThisWatch, who: Visitor, request: Request) -> wire.ProjectOut:
    """How everything stands: with all that who asks has changed here; what others did may be 2 s old."""
    look = request.app.state.glance.at(request.state.token)
    return state.project(project, watch, look, who, read_only=request.app.state.door.read_only)


@router.get("/curve", dependencies=[Looking])
def curve(project: ThisProject) -> wire.Curve:
    """Accuracy over labels, where the model errs, and the rules for stopping."""
    return state.curve(project)


# labelling


@router.post("/queue")
def queue(body: wire.QueueIn, me: Me, store: ThisStore, pictures: ThePictures) -> wire.Items:
    """The images to label next, leased to who asks; those already leased come first.

    Those to be asked again come without the label that stands, and without a suggestion.
    """
    if body.keep is not None:
        store.release(me.id, body.keep)
    return wire.Items(
        items=[
            wire.ItemOut(
                item_id=item.image_id,
                lease_id=item.lease_id,
                image_url=pictures.url(item.image_id),
                file_name=wire.readable(item.path),
                reason=item.reason,
                audit=item.source == "audit",
                model_version=item.model_version,
                suggestion=None
                if item.suggestion is None
                else [wire.Suggested(class_=name, prob=prob) for name, prob in item.suggestion],
            )
            for item in store.claim(me.id, body.n, relabel=body.source == "relabel")
        ]
    )


@router.post(
    "/labels",
    status_code=201,
    responses={200: {"model": wire.SavedOut, "description": "Known already"}, **_KEY_TAKEN},
)
def label(
    body: wire.AnswerIn, me: Me, store: ThisStore, pictures: ThePictures, response: Response
) -> wire.SavedOut:
    """Keep an answer. On disk when this returns; the same key again gives the same acknowledgement.

    The same key with another image, label or status is refused.
    """
    pictures.know([body.item_id])
    saved = store.label(me.id, _answer(body))
    response.status_code = 201 if saved.new else 200
    return _saved(saved)


@router.post(
    "/labels/batch",
    status_code=201,
    responses={200: {"model": list[wire.SavedOut], "description": "Known already"}, **_KEY_TAKEN},
)
def label_batch(
    body: list[wire.AnswerIn], me: Me, store: ThisStore, pictures: ThePictures, response: Response
) -> list[wire.SavedOut]:
    """Keep many answers, all or none; one undo takes them back together."""
    if len(body) > 5000:
        raise BadOption(f"{len(body)} answers in one batch are too many. Send 5000 at most.")
    pictures.know(one.item_id for one in body)
    saved = store.label_batch(me.id, [_answer(one) for one in body])
    response.status_code = 201 if any(one.new for one in saved) else 200
    return [_saved(one) for one in saved]


@router.post("/undo", responses=_KEY_TAKEN)
def undo(me: Me, store: ThisStore, pictures: ThePictures, body: wire.KeyIn | None = None) -> wire.ChangeOut:
    """Take back the newest answer of who asks; its image comes first in the next queue."""
    change = store.undo(me.id, body.key if body else None)
    return wire.ChangeOut(labels=_labels(change.labels, pictures), saved=change.saved)


@router.post("/redo", responses=_KEY_TAKEN)
def redo(me: Me, store: ThisStore, pictures: ThePictures, body: wire.KeyIn | None = None) -> wire.ChangeOut:
    """Give again what was undone last."""
    change = store.redo(me.id, body.key if body else None)
    return wire.ChangeOut(labels=_labels(change.labels, pictures), saved=change.saved)


@router.get("/labels", dependencies=[Looking])
def labels(
    store: ThisStore,
    pictures: ThePictures,
    who: Visitor,
    limit: Limit = 100,
    cursor: Annotated[int | None, Query(ge=1, le=wire.INT64)] = None,
    history: bool = False,
    mine: bool = False,
) -> wire.Labels:
    """Answers, newest first: the one that stands for each image, or all that were ever given."""
    me = next((one.id for one in store.annotators() if one.name == who), 0) if mine else None
    if mine and not history:
        rows = list(store.history(annotator_id=me, before=cursor, limit=3 * limit))
        standing = _standing(rows)[:limit]
        return wire.Labels(items=_labels(standing, pictures), next=_next(standing, limit))
    rows = (
        store.history(annotator_id=me, before=cursor, limit=limit)
        if history
        else store.labels(before=cursor, limit=limit)
    )
    return wire.Labels(items=_labels(rows, pictures), next=_next(rows, limit))


def _standing(rows: Sequence[Label]) -> list[Label]:
    """Of one annotator's rows, newest first, those that were neither taken back nor answered anew."""
    void = {row.undoes for row in rows}
    seen: set[int] = set()
    kept = []
    for row in rows:
        if row.status != "undone" and row.id not in void and row.image_id not in seen:
            seen.add(row.image_id)
            kept.append(row)
    return kept


def _next(rows: Sequence[Label], limit: int) -> str | None:
    return str(rows[-1].id) if len(rows) == limit else None


# classes


@router.get("/classes", dependencies=[Looking])
def classes(store: ThisStore) -> wire.Classes:
    """The classes in the order of their keys."""
    return wire.Classes(items=state.classes(store))


@router.post(
    "/classes", status_code=201, responses={200: {"model": wire.ClassOut, "description": "Was there"}}
)
def add_class(body: wire.NewClass, me: Me, store: ThisStore, response: Response) -> wire.ClassOut:
    """Add a class, or find the one of that name."""
    known = {one.id for one in store.classes()}
    [new] = store.add_classes([body.name])
    response.status_code = 200 if new.id in known else 201
    return _class(store, new.name)


@router.patch("/classes/{name:path}")
def change_class(name: str, body: wire.ChangedClass, me: Me, store: ThisStore) -> wire.ClassOut:
    """Rename a class, or merge it into another; its labels stay as they were given."""
    if (body.name is None) == (body.merge_into is None):
        raise BadOption("give either a new name or the class to merge into.")
    if body.name is not None:
        return _class(store, store.rename_class(name, body.name).name)
    return _class(store, store.merge_class(name, body.merge_into or "").name)


def _class(store: Store, name: str) -> wire.ClassOut:
    return next(one for one in state.classes(store) if one.name == name)


# images


_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}, "image/png": {}}, "description": "The picture"},
    304: {"description": "As you have it"},
    409: {"model": wire.Problem, "description": "Another picture lies there now"},
    410: {"model": wire.Problem, "description": "The file is gone"},
    415: {"model": wire.Problem, "description": "The file cannot be decoded"},
}


def _picture_of(size: Size) -> Callable[..., Response]:
    """The call that answers with a picture of that size."""

    def picture(
        image_id: ImageId,
        store: ThisStore,
        pictures: ThePictures,
        v: wire.Text | None = None,
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> Response:
        image = store.image(image_id)
        tag = pictures.tag(image, size)
        lasting = v == pictures.mark(image_id)
        headers = {
            "ETag": tag,
            "Cache-Control": "private, max-age=31536000, immutable" if lasting else "private, no-cache",
        }
        if if_none_match is not None and tag in if_none_match:
            return Response(status_code=304, headers=headers)
        if (elsewhere := pictures.elsewhere(image, size)) is not None:
            return RedirectResponse(
                elsewhere, 307, {"Cache-Control": f"private, max-age={SIGNED_SECONDS // 2}"}
            )
        found = pictures.get(image, size)
        return Response(found.content, media_type=found.media_type, headers=headers)

    return picture


_asked = partial(router.get, response_class=Response, responses=_PICTURE, dependencies=[Looking])
_asked("/images/{image_id}", description="A picture, upright and at most 1600 px wide and high.")(
    _picture_of("screen")
)
_asked("/images/{image_id}/thumb", description="A picture of at most 256 px.")(_picture_of("thumb"))


# overviews


@router.get("/grid", dependencies=[Looking])
def grid(
    store: ThisStore,
    pictures: ThePictures,
    by: Literal["class", "cluster", "status"] = "class",
    group: Annotated[wire.Text | None, Query()] = None,
    limit: Limit = 60,
    cursor: Cursor = None,
) -> wire.Tiles:
    """Images by predicted class, by cluster of look-alikes, or by status."""
    groups = store.groups(by)
    chosen = group if group is not None else next((one.name for one in groups if one.count), None)
    tiles = [] if chosen is None else store.tiles(by, chosen, limit=limit, after=cursor)
    return wire.Tiles(
        items=[_tile(tile, pictures) for tile in tiles],
        next=tiles[-1].cursor if len(tiles) == limit else None,
        groups=[wire.GroupOut(name=one.name, count=one.count) for one in groups],
    )


@router.get("/review", dependencies=[Looking])
def review(
    store: ThisStore,
    pictures: ThePictures,
    kind: Literal["errors", "duplicates", "disagreements"] = "errors",
    label: Annotated[wire.Text | None, Query()] = None,
    predicted: Annotated[wire.Text | None, Query()] = None,
    limit: Limit = 60,
    cursor: Annotated[int, Query(ge=0, le=wire.INT64)] = 0,
) -> wire.Findings:
    """Labels worth a second look, the most suspicious first."""
    found = state.findings(store, kind, label, predicted)
    page = found[cursor : cursor + limit]
    tiles = store.tile({image for one in page for image in (one.image_id, one.other_id) if image})
    after = cursor + limit
    return wire.Findings(
        items=[state.finding(one, kind, tiles, pictures) for one in page if one.image_id in tiles],
        next=str(after) if after < len(found) else None,
    )


def _tile(tile: Tile, pictures: Pictures) -> wire.TileOut:
    return wire.TileOut(
        item_id=tile.image_id,
        file_name=wire.readable(tile.path),
        thumb_url=pictures.thumb_url(tile.image_id),
        image_url=pictures.url(tile.image_id),
        suggestion=wire.Suggested(class_=tile.suggestion[0], prob=tile.suggestion[1])
        if tile.suggestion
        else None,
        label=tile.label,
        status=tile.status,
    )


# what happens meanwhile


@router.post("/rescan", status_code=202)
def rescan(me: Me, watch: ThisWatch) -> wire.State:
    """Look for photos that were added, renamed or taken away."""
    watch.rescan()
    return wire.State(state="scanning")


@router.post("/train", status_code=202)
def train(me: Me, project: ThisProject) -> wire.State:
    """Train now, if anything is new."""
    project.ask_for_training()
    return wire.State(state="asked")


@router.get(
    "/events",
    response_class=StreamingResponse,  # not FastAPI's own for events, which encodes each for every listener
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events as they come"}},
)
async def events(request: Request, store: ThisStore, watch: ThisWatch, who: Visitor) -> Response:
    """What changes, as it changes."""
    if request.state.annotator:  # the stream begins, perhaps after another server lost it
        await asyncio.to_thread(store.renew, request.state.annotator.id)
    unheld = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # by caches and proxies
    return StreamingResponse(watch.listen(request.state.token), 200, unheld, "text/event-stream")


_FILES = sorted({"application/octet-stream"} | {kind.media_type for kind in interop.formats.values()})


@router.get(
    "/export/{format}",
    response_class=StreamingResponse,
    responses={200: {"content": {media_type: {} for media_type in _FILES}, "description": "The file"}},
)
def export(format: str, project: ThisProject, who: Visitor) -> Response:
    """All labels, or the model, as a file."""
    if format == "model":
        return _model(project.store)
    chosen = interop.formats[format]
    pieces = chosen.write(interop.Outgoing(project.store, project.source))
    first = next(pieces, b"")  # what is wrong with the project is known now, not in the middle of a download
    name = f"{project.name}{chosen.suffix}"
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{_quoted(name)}"}
    return StreamingResponse(
        chain([first], pieces),
        media_type=chosen.media_type,
        headers=headers,
    )


def _model(store: Store) -> Response:
    model = store.model()
    content = store.artifact(model.version) if model else None
    if model is None or content is None:
        raise HTTPException(404, "there is no model yet. Label images of two classes first.")
    headers = {"Content-Disposition": f'attachment; filename="model-{model.version}.safetensors"'}
    return Response(content, media_type="application/octet-stream", headers=headers)


def _quoted(name: str) -> str:
    return quote(name, errors="replace")


# between store and wire


def _answer(body: wire.AnswerIn) -> Answer:
    return Answer(
        image_id=body.item_id,
        label=body.label,
        status=body.status,
        key=body.key,
        lease_id=body.lease_id,
        model_version=body.model_version,
        suggestion_shown=body.suggestion_shown,
        lead_ms=body.lead_ms,
    )


def _saved(saved: Saved) -> wire.SavedOut:
    return wire.SavedOut(label_id=saved.label_id, saved=saved.saved)


def _labels(rows: Sequence[Label], pictures: Pictures) -> list[wire.LabelOut]:
    return [
        wire.LabelOut(
            label_id=row.id,
            item_id=row.image_id,
            file_name=wire.readable(row.path),
            label=row.label,
            status=row.status,
            annotator=row.annotator,
            round=row.round,
            source=row.source,
            created_at=row.created_at,
            thumb_url=pictures.thumb_url(row.image_id),
        )
        for row in rows
    ]
