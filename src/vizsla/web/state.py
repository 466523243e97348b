"""How everything stands, as the page shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

from vizsla import monitor
from vizsla.project import Project
from vizsla.standing import Standing, accuracy_of, standing
from vizsla.store import ImageClass, Store, Tile
from vizsla.store.queue import REVIEW
from vizsla.web import wire
from vizsla.web.glance import Look
from vizsla.web.pictures import Pictures
from vizsla.web.watch import Watch

Kind = Literal["errors", "duplicates", "disagreements"]


def project(project: Project, watch: Watch, look: Look, who: str, *, read_only: bool) -> wire.ProjectOut:
    """The answer to `GET /api/project`."""
    now, settings = look.now, project.settings
    return wire.ProjectOut(
        id=project.mark,
        name=wire.readable(project.name),
        version=metadata.version("vizsla"),
        classes=_classes(look.classes, now.counts.classes),
        counts=_counts(now),
        model=_model(now),
        accuracy=wire.AccuracyOut(**vars(now.accuracy)) if now.accuracy else None,
        checks=wire.ChecksOut(done=now.checks, needed=monitor.CHECKS_TO_SHOW),
        training=training(watch, now),
        advice=_advice(now),
        suspects=look.suspects,
        notice=wire.readable(watch.notice) or None,
        guidelines=wire.readable(settings.guidelines),
        annotator=who,
        read_only=read_only,
        strategy=settings.strategy,
    )


def news(watch: Watch, look: Look, event: str) -> Any:
    """What goes with an event. A page that has it need not ask how the project stands."""
    now = look.now
    if event == "saved":
        return saved(look).model_dump()
    if event == "model_swapped":
        model = _model(now)
        return model.model_dump() if model else {"version": 0, "labels": 0}
    if event == "advice":
        advice = _advice(now)
        return advice.model_dump() if advice else None
    if event == "training":
        return training(watch, now).model_dump()
    return {}


def saved(look: Look) -> wire.SavedNews:
    """What answers change."""
    counts = _counts(look.now)
    return wire.SavedNews(
        saved=counts.labelled + counts.skipped + counts.flagged,
        counts=counts,
        classes=_classes(look.classes, look.now.counts.classes),
        advice=_advice(look.now),
        suspects=look.suspects,
    )


def _counts(now: Standing) -> wire.Counts:
    counts = now.counts
    return wire.Counts(
        total=counts.total,
        unlabelled=counts.unlabelled,
        labelled=counts.labelled,
        skipped=counts.skipped,
        flagged=counts.flagged,
    )


def _model(now: Standing) -> wire.ModelOut | None:
    return wire.ModelOut(version=now.model.version, labels=now.model.labels_used) if now.model else None


def _advice(now: Standing) -> wire.Advice | None:
    return wire.Advice(text=now.advice.text, stop=now.advice.stop) if now.advice else None


def training(watch: Watch, now: Standing) -> wire.Training:
    """What the trainer does, in a few words."""
    said: Mapping[str, Any] = (watch.pulse.training if watch.pulse else None) or {}
    left = now.labels_to_next
    state, done, total, error = said.get("state"), said.get("done"), said.get("total"), said.get("error")
    if state == "failed":
        text = f"training failed: {wire.readable(error)}"
        return wire.Training(state="failed", text=text, labels_to_next=left, error=wire.readable(error))
    if state == "training":
        return wire.Training(state="training", text="training… keep labelling", labels_to_next=left)
    if watch.scanning:
        text = f"scanning the folder: {now.counts.total:,} images so far"
        return wire.Training(state="scanning", text=text, labels_to_next=left)
    if state == "embedding":
        text = f"reading images {done:,} of {total:,}" if total else "loading the network"
        return wire.Training(state="embedding", text=text, labels_to_next=left, done=done, total=total)
    if now.model is None:
        known = sum(count > 0 for count in now.counts.classes.values())
        text = "two classes needed" if known < 2 and left == 0 else f"{_more(left)} to the first model"
        return wire.Training(state="waiting", text=text, labels_to_next=left)
    return wire.Training(state="idle", text=f"{_more(left)} to the next model", labels_to_next=left)


def _more(labels: int) -> str:
    return f"{labels} more" if labels else "a moment"


def classes(store: Store) -> list[wire.ClassOut]:
    """The classes in the order of their keys, with how many images each has."""
    return _classes(store.classes(), store.counts().classes)


def _classes(listed: Sequence[ImageClass], labelled: Mapping[str, int]) -> list[wire.ClassOut]:
    return [
        wire.ClassOut(name=one.name, labelled=labelled.get(one.name, 0), position=one.position)
        for one in listed
    ]


def curve(project: Project) -> wire.Curve:
    """The answer to `GET /api/curve`."""
    now = standing(project)
    kept = project.store.setting("confusion") or {}
    recall = zip(kept.get("classes", []), kept.get("recall", []), kept.get("counts", []), strict=True)
    return wire.Curve(
        items=[
            _point(model.version, model.labels_used, accuracy_of(model), model.created_at)
            for model in project.store.models()
            if model.state == "ready"
        ],
        confusion=wire.Confusion(classes=kept["classes"], counts=kept["counts"]) if kept else None,
        recall=[wire.Recall(class_=name, recall=share, labels=sum(row)) for name, share, row in recall],
        stop=[wire.Rule(rule=one.rule, met=one.met, text=one.text) for one in now.reasons],
    )


def _point(version: int, labels: int, measured: monitor.Accuracy | None, at: Any) -> wire.Point:
    shown = measured if measured and measured.checks >= monitor.CHECKS_TO_SHOW else None
    return wire.Point(
        version=version,
        labels=labels,
        accuracy=shown.value if shown else None,
        low=shown.low if shown else None,
        high=shown.high if shown else None,
        checks=measured.checks if measured else 0,
        created_at=at,
    )


@dataclass(frozen=True)
class Found:
    """A label worth a second look."""

    image_id: int
    label: str | None = None
    """What stood when it was found."""
    suggestion: tuple[str, float] | None = None
    other_id: int | None = None
    score: float = 0.0
    text: str = ""


def findings(store: Store, kind: Kind, label: str | None, predicted: str | None) -> list[Found]:
    """All of a kind, the most suspicious first; of errors, only those of a cell of the confusion matrix."""
    if kind == "disagreements":
        return [
            Found(one.image_id, one.label, text=" · ".join(f"{who}: {name}" for who, name in one.answers))
            for one in store.disagreements()
        ]
    review = store.setting(REVIEW) or {}
    kept = _undecided(store, review.get(kind, []), review.get("label_id", 0))
    if kind == "duplicates":
        return [
            Found(one["image"], other_id=one["other"], score=one["score"], text="nearly the same picture")
            for one in kept
        ]
    found = [_error(one) for one in kept]
    return [
        one
        for one in found
        if label in (None, one.label) and (predicted is None or (one.suggestion or ("",))[0] == predicted)
    ]


def _undecided(store: Store, kept: Sequence[Mapping[str, Any]], label_id: int) -> list[Mapping[str, Any]]:
    """What nobody has answered since it was found."""
    involved = {one[side] for one in kept for side in ("image", "other") if side in one}
    fresh = {image for image, tile in store.tile(involved).items() if (tile.label_id or 0) > label_id}
    return [one for one in kept if one["image"] not in fresh and one.get("other") not in fresh]


def _error(kept: Mapping[str, Any]) -> Found:
    name, prob = kept["suggestion"]
    text = f"labelled {kept['label']}; the other labels say {name}"
    return Found(kept["image"], kept["label"], (name, prob), None, kept["score"], text)


def finding(one: Found, kind: Kind, tiles: Mapping[int, Tile], pictures: Pictures) -> wire.Finding:
    """A finding with what stands now."""
    tile, other = tiles[one.image_id], tiles.get(one.other_id or 0)
    return wire.Finding(
        item_id=one.image_id,
        file_name=wire.readable(tile.path),
        thumb_url=pictures.thumb_url(one.image_id),
        image_url=pictures.url(one.image_id),
        label=tile.label,
        suggestion=wire.Suggested(class_=one.suggestion[0], prob=one.suggestion[1])
        if one.suggestion
        else None,
        score=one.score,
        kind=kind,
        other=wire.Other(
            item_id=other.image_id, label=other.label, thumb_url=pictures.thumb_url(other.image_id)
        )
        if other
        else None,
        text=one.text,
    )
