"""`vizsla label --terminal`: a person answers in a terminal, the model learns meanwhile, nothing is lost."""

from __future__ import annotations

import time
from dataclasses import dataclass

from vizsla.asking import Asker
from vizsla.companion import trainer_beside
from vizsla.errors import BadOption
from vizsla.project import Project
from vizsla.store import Answer, Item, Store


@dataclass(frozen=True)
class Session:
    """How a labelling session ended."""

    labelled: int
    """Labels in the project now."""
    remaining: int
    """Images that still wait for one."""


def label_in_terminal(
    project: Project, *, annotator: str = "me", asker: Asker | None = None, trainer: bool = True
) -> Session:
    """Ask for labels, the most useful first, until the person quits or nothing is left.

    Each answer is on disk before the next question, in the same project as that of the page.

    Args:    asker: shows and asks; default: the person at the terminal.
             trainer: have a model trained beside it; without, the order is random or that of another trainer.
    Raises:  BadOption where there are fewer than two classes; NoImages where there is nothing to label.
    """
    store = project.store
    classes = tuple(one.name for one in store.classes())
    if len(classes) < 2:
        raise BadOption("two classes are needed to learn anything. Give them with --classes cat,dog.")
    project.scan()
    me = store.annotator(annotator).id
    person = asker or Asker(classes)
    try:
        if trainer:
            with trainer_beside(project):
                _ask_on(store, project, me, person)
        else:
            _ask_on(store, project, me, person)
    except (KeyboardInterrupt, EOFError):
        person.new_line()
    finally:
        store.release(me)
    counts = store.counts()
    return Session(counts.labelled, counts.unlabelled)


def _ask_on(store: Store, project: Project, me: int, person: Asker) -> None:
    last = ""
    while items := store.claim(me, 1):
        item, counts = items[0], store.counts()
        heading = f"{counts.labelled:,} labelled, {counts.unlabelled:,} to go · {item.reason}{last}"
        began = time.monotonic()
        person.draw(project.source, item.path, heading)
        answer = person.answer(may_undo=True)
        if answer == "q":
            return
        if answer == "u":
            taken = store.undo(me).labels
            last = " · taken back: answer again" if taken else " · nothing to take back"
            continue
        name = person.choices.classes[answer] if isinstance(answer, int) else None
        project.note_contents([item.image_id])
        store.label(me, _answer(item, name, round((time.monotonic() - began) * 1000)))
        last = f" · last: {name or 'skipped'}"


def _answer(item: Item, name: str | None, lead_ms: int) -> Answer:
    return Answer(
        item.image_id,
        name,
        "labelled" if name else "skipped",
        lease_id=item.lease_id,
        suggestion_shown=False,
        lead_ms=lead_ms,
    )
