"""`Store`: all that a project remembers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

from sqlalchemy import select

from vizsla.store import (
    answers,
    catalogue,
    classes,
    foreign,
    imports,
    moving,
    overview,
    people,
    queue,
    undo,
    versions,
)
from vizsla.store.database import Database, insert
from vizsla.store.lead import Lead
from vizsla.store.records import (
    Annotator,
    Answer,
    Change,
    ClassChange,
    Counts,
    Disagreement,
    Group,
    Image,
    ImageClass,
    ImageFile,
    Imported,
    Item,
    Label,
    Model,
    Places,
    Published,
    Pulse,
    Ranked,
    Rescanned,
    Saved,
    State,
    TakenIn,
    Task,
    Tile,
    Upcoming,
)
from vizsla.store.schema import settings
from vizsla.store.tally import Tally

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """This moment, with its zone."""
    return datetime.now(UTC)


class Store:
    """A project's images, classes, labels, queue and models, in SQLite or PostgreSQL.

    Threads share one store; every process opens its own, also after a fork. A call that writes returns once
    the change is on disk, and either all of it happened or nothing.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Store.open(folder) as store:
    ...     _ = store.add_images([ImageFile("a.jpg", 100, 0), ImageFile("b.jpg", 200, 0)])
    ...     _ = store.add_classes(["cat", "dog"])
    ...     me = store.annotator("me")
    ...     [item] = store.claim(me.id, 1)
    ...     store.label(me.id, Answer(item.image_id, "dog")).saved
    ...     store.counts()
    1
    Counts(total=2, unlabelled=1, labelled=1, skipped=0, flagged=0, classes={'cat': 0, 'dog': 1})
    """

    def __init__(self, database: Database, lease_seconds: float = 180.0, clock: Clock = utc_now) -> None:
        self._db = database
        self._lease = timedelta(seconds=lease_seconds)
        self._now = clock
        self._tally = Tally()

    @classmethod
    def open(cls, project: str | Path, *, lease_seconds: float = 180.0, clock: Clock = utc_now) -> Self:
        """Open a project, made if it is not there, and bring its tables up to date.

        Args:
            project: a folder (SQLite, `project.db` in it) or a URL, `postgresql://user@host/name`.
            lease_seconds: how long an image stays with an annotator who does nothing.
            clock: tells the time; the machines that share a project must agree on it to within a lease.
        """
        return cls(Database.open(project), lease_seconds, clock)

    @property
    def name(self) -> str:
        """Path of the database file, or its URL without the password."""
        return self._db.name

    def close(self) -> None:
        """Finish what is being written and let go of the database."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def take_over(
        self,
        other: Store,
        changed: Mapping[str, Any],
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, int]:
        """Copy all that another store remembers into this empty one, or nothing; returns rows by table.

        Args:
            changed: settings that are others here.
            progress: called with (done, total) rows, perhaps from another thread.
        Raises: BadOption where this store is not empty, or where someone works on the other.
        """
        return moving.copy(other._db, self._db, changed, progress)

    # images

    def add_images(self, files: Iterable[ImageFile]) -> int:
        """Add the files whose path is new, as they come; returns how many. Known paths are left alone."""
        return catalogue.add(self._db, files)

    def rescan(
        self,
        files: Iterable[ImageFile],
        digest: catalogue.Digest,
        progress: Callable[[int, int], None] | None = None,
    ) -> Rescanned:
        """Bring the catalogue in line with all the files that there are now.

        A renamed file keeps its id and labels; a file with another content becomes another image, without
        labels; one that is gone counts no more until it is back.

        Args:
            digest: path → SHA-256 in hex, None where unreadable; called, in threads, only for what may be a renamed
            file.
            progress: called with (done, total) while files are read.
        """
        try:
            return catalogue.rescan(self._db, files, digest, progress)
        finally:
            self._tally.forget()

    def image(self, image_id: int) -> Image:
        """One image. Raises UnknownName where there is none of that id."""
        with self._db.read() as conn:
            return catalogue.image(conn, image_id)

    def images(self, *, state: State | None = None, after: int = 0, limit: int | None = None) -> list[Image]:
        """Images by rising id, from the first above `after`."""
        with self._db.read() as conn:
            return catalogue.listed(conn, state, after, limit)

    def unread(self, image_ids: Iterable[int] | None = None) -> list[Image]:
        """The images that are there and whose SHA-256 nobody knows: those of these ids, or all with an answer."""
        with self._db.read() as conn:
            return catalogue.unread(conn, image_ids)

    def hashes(self, image_ids: Iterable[int]) -> dict[int, str]:
        """The SHA-256 of these images, of those that have been decoded."""
        with self._db.read() as conn:
            return catalogue.hashes(conn, image_ids)

    def set_hashes(self, hashes: Mapping[int, str]) -> None:
        """Note the SHA-256 of images that had none yet: an id's content never changes."""
        self._db.write(lambda conn: catalogue.set_hashes(conn, hashes), repeatable=True)

    def set_unreadable(self, image_id: int, problem: str) -> None:
        """Take an image that cannot be decoded out of the queue; it counts as flagged."""
        self._db.write(lambda conn: catalogue.set_unreadable(conn, image_id, problem), repeatable=True)
        self._tally.forget()

    # classes

    def classes(self) -> tuple[ImageClass, ...]:
        """The classes one can answer with, in the order of their keys."""
        with self._db.read() as conn:
            return classes.listed(conn)

    def class_names(self) -> dict[int, str]:
        """Id of every class there ever was → its name now, after renames and merges."""
        with self._db.read() as conn:
            return {class_id: one.name for class_id, one in classes.roots(conn).items()}

    def add_classes(self, names: Iterable[str]) -> tuple[ImageClass, ...]:
        """Add those that are not there yet; returns the named classes in order."""
        wanted, now = list(names), self._now()
        return self._db.write(lambda conn: classes.add(conn, wanted, now), repeatable=True)

    def rename_class(self, name: str, to: str) -> ImageClass:
        """Give a class another name; its labels, id and key stay, and late labels may use the old name."""
        now = self._now()
        return self._db.write(lambda conn: classes.rename(conn, name, to, now), repeatable=True)

    def merge_class(self, name: str, into: str) -> ImageClass:
        """Count a class as another from now on; returns that other. Labels keep what was answered."""
        now = self._now()
        return self._db.write(lambda conn: classes.merge(conn, name, into, now))

    def class_history(self) -> tuple[ClassChange, ...]:
        """Everything that happened to the classes, oldest first."""
        with self._db.read() as conn:
            return classes.history(conn)

    # queue

    def publish_ranking(self, model_version: int | None, rows: Iterable[Ranked]) -> Published:
        """Let claims follow this order, best first, from one moment to the next.

        Images that it does not name come after it, in random order.

        Args:
            model_version: which model ranks; None where there is none yet.
        """
        return queue.publish(self._db, model_version, rows, self._now())

    def ranking(self) -> Published | None:
        """Which ranking claims follow; None before the first."""
        with self._db.read() as conn:
            return queue.published(conn)

    def claim(self, annotator_id: int, n: int = 1, *, relabel: bool = False) -> list[Item]:
        """Up to n unanswered images, leased to this annotator: those already held first, then by rank.

        No image is leased to two annotators at once. Fewer than n come where no more are free.

        Args:
            relabel: labelled images instead that the newest model's review doubts, worst first. Nobody is told
            the label that stands, and none is asked about more than once.
        """
        now = self._now()
        return self._db.write(
            lambda conn: queue.claim(conn, annotator_id, n, now, now + self._lease, relabel=relabel),
            repeatable=True,
        )

    def upcoming(self, n: int, *, relabel: bool = False) -> list[Upcoming]:
        """The images by rank, as claims would hand them out; nothing is leased."""
        with self._db.read() as conn:
            return queue.upcoming(conn, n, relabel=relabel)

    def suspects(self) -> int:
        """How many labelled images are worth asking again."""
        with self._db.read() as conn:
            return queue.suspects(conn)

    def renew(self, annotator_id: int) -> int:
        """Prolong the annotator's leases, as every claim and answer does; returns how many there are."""
        now = self._now()
        return self._db.write(
            lambda conn: queue.renew(conn, annotator_id, now, now + self._lease), repeatable=True
        )

    def held(self) -> tuple[int, int]:
        """How many images annotators hold, and how many annotators that are."""
        now = self._now()
        with self._db.read() as conn:
            return queue.held(conn, now)

    def release(
        self, annotator_id: int, keep: Collection[str] = (), *, idle_since: datetime | None = None
    ) -> int:
        """Give the annotator's images back; returns how many.

        Args: keep: leases to hold on to. idle_since: only if the annotator has done nothing since then.
        """
        until = None if idle_since is None else idle_since + self._lease
        return self._db.write(lambda conn: queue.release(conn, annotator_id, keep, until), repeatable=True)

    # labels

    def label(self, annotator_id: int, answer: Answer) -> Saved:
        """Append an answer; on disk when this returns. The same key again gives the same acknowledgement.

        The image's lease ends; an answer without one, or after it, is as good as any.
        Raises UnknownName for an image that is not there, NoLabel for a class that is not, KeyTaken for a key that
        named another answer.
        """
        now = self._now()
        return self._db.write(
            lambda conn: answers.give(
                conn, annotator_id, [answer], now, now + self._lease, None, self._tally.before
            ),
            repeatable=True,
        )[0]

    def label_batch(self, annotator_id: int, batch: Sequence[Answer]) -> list[Saved]:
        """Append answers, all or none. One undo takes them all back."""
        now, mark = self._now(), uuid4()
        return self._db.write(
            lambda conn: answers.give(
                conn, annotator_id, batch, now, now + self._lease, mark, self._tally.before
            ),
            repeatable=True,
        )

    def import_labels(
        self, rows: Sequence[Imported], progress: Callable[[int, int], None] | None = None
    ) -> TakenIn:
        """Append answers that were given elsewhere, in their order, all or none.

        Each comes to stand, unless what stands was given later: then it is passed over.

        Args:
            progress: called with (done, total) before anything is on disk, and perhaps from another thread.
        """
        now = self._now()
        return self._db.write(lambda conn: imports.take_in(conn, rows, now, progress))

    def preview_import(self, rows: Sequence[Imported]) -> TakenIn:
        """What `import_labels` would write now. Nothing is."""
        with self._db.read() as conn:
            return imports.preview(conn, rows)

    def undo(self, annotator_id: int, key: UUID | None = None) -> Change:
        """Take back the annotator's newest answer that stands; the next claim shows its image first.

        What stood before it stands again. The same key again gives the same change. Of a batch, the oldest 100
        images are shown first, and the others come as the ranking says.
        """
        now, own = self._now(), key or uuid4()
        return self._db.write(
            lambda conn: undo.undo(conn, annotator_id, own, now, now + self._lease), repeatable=True
        )

    def redo(self, annotator_id: int, key: UUID | None = None) -> Change:
        """Give again what the annotator undid last, unless an answer came since."""
        now, own = self._now(), key or uuid4()
        return self._db.write(
            lambda conn: undo.redo(conn, annotator_id, own, now, now + self._lease), repeatable=True
        )

    def labels(self, *, before: int | None = None, limit: int | None = None) -> list[Label]:
        """The label that stands for each image that is there, newest first.

        Args:
            before: only rows with a smaller id: the last of a page is the cursor to the next.
        """
        with self._db.read() as conn:
            return answers.standing(conn, before, limit)

    def standing_labels(self, image_ids: Iterable[int]) -> dict[int, Label]:
        """The label that stands for each of these images that has one, whether or not it is there."""
        with self._db.read() as conn:
            return answers.standing_of(conn, image_ids)

    def history(
        self, *, annotator_id: int | None = None, before: int | None = None, limit: int | None = None
    ) -> list[Label]:
        """Every row that was ever appended, newest first, of one annotator or of all."""
        with self._db.read() as conn:
            return answers.history(conn, annotator_id, before, limit)

    def counts(self) -> Counts:
        """Images that are there, by standing answer and class."""
        with self._db.read() as conn:
            return answers.counts(conn)

    # tasks of another labelling tool

    def link_tasks(self, origin: str, image_of: Mapping[int, int]) -> None:
        """Remember which image each task of that origin is about."""
        self._db.write(lambda conn: foreign.link(conn, origin, image_of))

    def tasks(self, origin: str, wanted: Iterable[int]) -> dict[int, Task]:
        """What is known of these tasks."""
        with self._db.read() as conn:
            return foreign.tasks(conn, origin, wanted)

    def show_tasks(self, origin: str, shown: Collection[int]) -> None:
        """Note that a suggestion was handed out for these tasks."""
        self._db.write(lambda conn: foreign.show(conn, origin, shown))

    def at(self, paths: Iterable[str]) -> dict[str, int]:
        """Path → image id, of images that are there."""
        with self._db.read() as conn:
            return foreign.at(conn, paths)

    def places(self, image_ids: Iterable[int]) -> Places:
        """Where these images stand in the ranking that claims follow."""
        with self._db.read() as conn:
            return foreign.places(conn, image_ids)

    def take_answers(self, rows: Sequence[Imported]) -> TakenIn:
        """Append what foreign answers, each marked by its `batch`, say now; what they said already is left out."""
        now = self._now()
        return self._db.write(lambda conn: foreign.take_in(conn, rows, now))

    def withdraw(self, marks: Iterable[UUID]) -> int:
        """Take back all answers that carry these marks, whoever gave them; returns how many."""
        given, now = list(marks), self._now()
        return self._db.write(lambda conn: undo.withdraw(conn, given, now))

    # overview

    def pulse(self) -> Pulse:
        """What changes while people label and a trainer trains: cheap enough to ask several times a second."""
        with self._db.read() as conn:
            return overview.pulse(conn)

    def groups(self, by: overview.By) -> tuple[Group, ...]:
        """How the unanswered images part into predicted classes or clusters, or all images into statuses."""
        with self._db.read() as conn:
            return overview.groups(conn, by)

    def tiles(self, by: overview.By, group: str, *, limit: int = 60, after: str | None = None) -> list[Tile]:
        """Images of a group: surest first by class, else by id, from after the cursor of another tile.

        Images whose label is to measure the model are left out while they have none, for they must be
        answered without a suggestion.
        """
        with self._db.read() as conn:
            return overview.tiles(conn, by, group, limit, after)

    def tile(self, image_ids: Iterable[int]) -> dict[int, Tile]:
        """Tiles of these images; those that are gone are left out."""
        with self._db.read() as conn:
            return overview.named(conn, list(image_ids))

    def suggestions(self, image_ids: Iterable[int]) -> dict[int, tuple[str, float]]:
        """Class and probability that the newest model suggests, for the unanswered of these images.

        Images whose label is to measure the model are left out: nobody may see a suggestion for them.
        """
        with self._db.read() as conn:
            return overview.suggestions(conn, list(image_ids))

    def labels_since(self, label_id: int) -> tuple[int, int]:
        """How many images that are there have a class by a newer answer than that, and by one as old or older."""
        with self._db.read() as conn:
            return overview.labels_since(conn, label_id)

    def anchored(self) -> frozenset[int]:
        """Images whose first label was given with a suggestion in sight: they measure no accuracy."""
        with self._db.read() as conn:
            return overview.anchored(conn)

    def confirmed(self) -> frozenset[int]:
        """Images that were given the same label more than once, not counting what was taken back."""
        with self._db.read() as conn:
            return overview.confirmed(conn)

    def disagreements(self, limit: int = 100) -> list[Disagreement]:
        """Images that annotators labelled differently, the newest first."""
        with self._db.read() as conn:
            return overview.disagreements(conn, limit)

    # models

    def lead(self, role: str) -> AbstractContextManager[Lead]:
        """Try to be the only one in a role; the context is true where nobody else is.

        It ends with the process, however that ends, and on PostgreSQL with the connection: ask `held()` of it
        before what only one may do.
        """
        return self._db.lead(role)

    def start_model(self, labels_used: int, head: str, backbone_key: str) -> Model:
        """Number a model whose training begins."""
        now = self._now()
        return self._db.write(lambda conn: versions.start(conn, labels_used, head, backbone_key, now))

    def finish_model(self, version: int, metrics: Mapping[str, Any]) -> Model:
        """Note that a model is ready; what older ones consisted of is forgotten."""
        return self._db.write(lambda conn: versions.finish(conn, version, metrics), repeatable=True)

    def fail_model(self, version: int, error: str) -> Model:
        """Note why a model came to nothing."""
        return self._db.write(lambda conn: versions.fail(conn, version, error), repeatable=True)

    def models(self) -> tuple[Model, ...]:
        """All models, oldest first."""
        with self._db.read() as conn:
            return versions.listed(conn)

    def model(self) -> Model | None:
        """The newest model that is ready."""
        with self._db.read() as conn:
            return versions.newest(conn)

    def keep_artifact(self, version: int, content: bytes) -> None:
        """Store what a model consists of; of ready models only the newest few keep it."""
        self._db.write(lambda conn: versions.keep(conn, version, content))

    def artifact(self, version: int) -> bytes | None:
        """What a model consists of; None where it is not kept."""
        with self._db.read() as conn:
            return versions.content(conn, version)

    # people

    def newcomer(self, base: str, token: str) -> Annotator:
        """Whose token it is, or a new annotator of a free name with it."""
        now = self._now()
        return self._db.write(lambda conn: people.newcomer(conn, base, token, now), repeatable=True)

    def annotator(self, name: str) -> Annotator:
        """The annotator of that name, made if there is none."""
        now = self._now()
        return self._db.write(lambda conn: people.ensure(conn, name, now), repeatable=True)

    def annotators(self) -> tuple[Annotator, ...]:
        """Everyone who has labelled or may, in the order they came."""
        with self._db.read() as conn:
            return people.listed(conn)

    def new_token(self, name: str) -> tuple[Annotator, str]:
        """Give an annotator, made if there is none, a new token; it is told only here."""
        now = self._now()
        return self._db.write(lambda conn: people.set_token(conn, name, now), repeatable=True)

    def revoke_token(self, name: str) -> None:
        """Make the annotator's token void; the labels stay."""
        self._db.write(lambda conn: people.revoke(conn, name), repeatable=True)

    def who(self, token: str) -> Annotator | None:
        """Whose token it is; None for nobody's."""
        with self._db.read() as conn:
            return people.by_token(conn, token)

    # settings

    def setting(self, key: str, default: Any = None) -> Any:
        """A setting of the project, anything that JSON holds."""
        with self._db.read() as conn:
            row = conn.execute(select(settings.c.value).where(settings.c.key == key)).first()
        return default if row is None else row.value

    def set_setting(self, key: str, value: Any) -> None:
        """Keep a setting."""
        self._db.write(
            lambda conn: conn.execute(
                insert(conn, settings)
                .values(key=key, value=value)
                .on_conflict_do_update(index_elements=["key"], set_={"value": value})
            ),
            repeatable=True,
        )
