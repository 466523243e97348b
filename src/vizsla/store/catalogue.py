"""The catalogue: which images there are, by content.

An id belongs to a content. A renamed file keeps its id, known by its SHA-256; a file whose content is
another one now is another image, and the old one is missing until its content turns up again.

Size and time of writing do not tell two frames of one camera apart, and neither changes when they swap names. So a
file counts as unchanged only where its ctime is the same as well: the system sets it whenever a file is written or
renamed, and nobody can set it back. Rights, or a copy of the whole folder, change it too: then the file is read
once, and keeps its id if the content is the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, delete, select, update

from vizsla.errors import UnknownName
from vizsla.store import classes as naming
from vizsla.store.database import Database, batched, insert
from vizsla.store.records import Image, ImageFile, Rescanned, State
from vizsla.store.schema import images, leases, legible
from vizsla.types import Progress

Digest = Callable[[str], str | None]
"""Relative path → SHA-256 of the file in hex, None where it cannot be read."""

_CHUNK = 2000  # rows per transaction: labels come in between
_READ_AT_ONCE = 500  # files between two announcements of progress

_ABOUT: dict[str, Any] = {
    "size": bindparam("bytes"),
    "mtime_ns": bindparam("mtime"),
    "ctime_ns": bindparam("ctime"),
}


def add(database: Database, files: Iterable[ImageFile]) -> int:
    """Add the files whose path is not known yet, chunk by chunk as they come; returns how many."""
    added = sum(database.write(partial(_insert, files=chunk)) for chunk in batched(files, _CHUNK))
    if added:
        database.analyze(images)
    return added


def _insert(conn: Connection, files: list[ImageFile]) -> int:
    rows = [{**vars(file), "state": "present", "shuffle": _shuffle(file.path)} for file in files]
    new = insert(conn, images).on_conflict_do_nothing(index_elements=["path"])
    if conn.dialect.name == "sqlite":  # the quicker way there, and thrice as slow as the other on PostgreSQL
        return len(conn.execute(new.returning(images.c.id), rows).all())
    return conn.execute(new, rows, execution_options={"preserve_rowcount": True}).rowcount


def _about(file: ImageFile) -> dict[str, Any]:
    return {"bytes": file.size, "mtime": file.mtime_ns, "ctime": file.ctime_ns}


def _shuffle(path: str) -> int:
    """A place from 0 to 2⁶³ − 1 that looks random and is the same on every machine."""
    digest = hashlib.blake2b(path.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


@dataclass
class _Plan:
    """What a rescan will write."""

    new: list[ImageFile] = field(default_factory=list)
    moves: dict[int, ImageFile] = field(default_factory=dict)
    """Image id → where its content lies now."""
    touched: dict[int, ImageFile] = field(default_factory=dict)
    """Images never read, whose file has another size or time now."""
    seen: list[tuple[int, int]] = field(default_factory=list)
    """Ids and ctimes of the images that an older version has scanned without noting it."""
    retired: list[int] = field(default_factory=list)
    """Images whose path holds another content now."""
    lost: list[int] = field(default_factory=list)
    found: list[int] = field(default_factory=list)


def rescan(
    database: Database, files: Iterable[ImageFile], digest: Digest, progress: Progress | None = None
) -> Rescanned:
    """Compare the catalogue with all the files that there are now.

    A file is read (by `digest`, in threads) only where it is new or touched and as large as an image that has left
    its path: a renamed one, it may be.

    Args: progress: called with (done, total) while files are read.
    """
    names = ("id", "path", "sha256", "size", "mtime_ns", "ctime_ns", "state", "status")
    columns = [images.c[name] for name in names]
    with database.read() as conn:
        rows = {row.id: row for row in conn.execute(select(*columns).order_by(images.c.id))}
    plan = _plan(
        rows, {file.path: file for file in files}, partial(_digests, digest=digest, progress=progress)
    )
    if plan.moves or plan.touched or plan.retired:
        database.write(partial(_move, plan=plan))
    for chunk in batched(plan.lost, _CHUNK):
        database.write(partial(_set_state, ids=chunk, state="missing"))
    for chunk in batched(plan.found, _CHUNK):
        database.write(partial(_set_state, ids=chunk, state="present"))
    for seen in batched(plan.seen, _CHUNK):
        database.write(partial(_set_ctimes, seen=seen))
    placed = plan.moves | plan.touched
    paths = {row.path for row in rows.values()}
    changed = sum(file.path in paths for file in plan.new)
    return Rescanned(
        added=add(database, plan.new) - changed,
        renamed=sum(rows[image_id].path != file.path for image_id, file in plan.moves.items()),
        changed=changed,
        missing=len(plan.lost),
        returned=len(plan.found)
        + sum(rows[one].state == "missing" and rows[one].path == file.path for one, file in placed.items()),
        dropped=sum(rows[image_id].status != "unlabelled" for image_id in plan.retired),
    )


_Digests = Callable[[list[str]], dict[str, str | None]]


def _digests(paths: list[str], digest: Digest, progress: Progress | None) -> dict[str, str | None]:
    """Path → SHA-256, of many files."""
    found: dict[str, str | None] = {}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for chunk in batched(paths, _READ_AT_ONCE):
            found |= zip(chunk, threads.map(digest, chunk), strict=True)
            if progress:
                progress(len(found), len(paths))
    return found


def _plan(rows: Mapping[int, Row[Any]], files: Mapping[str, ImageFile], digests: _Digests) -> _Plan:
    owner = {row.path: row for row in rows.values() if row.path is not None}
    pending = {path: file for path, file in files.items() if not _is_at_rest(owner.get(path), file)}
    loose = [row for row in rows.values() if row.path not in files or row.path in pending]
    sizes = {row.size for row in loose if row.sha256 is not None}
    found = digests([path for path, file in pending.items() if file.size in sizes])
    plan = _Plan(moves=_match(loose, pending, found))
    placed = {file.path for file in plan.moves.values()}
    for path, file in pending.items():
        row = owner.get(path)
        stays = None if row is None or row.id in plan.moves else row
        if stays and path not in placed and stays.sha256 is None and stays.status == "unlabelled":
            plan.touched[stays.id] = file
            continue
        if stays and path in found and found[path] is None:
            continue  # it cannot be read now: the next scan tries again
        if path not in placed:
            plan.new.append(file)
        if stays:
            plan.retired.append(stays.id)
    for row in rows.values():
        if row.path in files and row.path not in pending:
            if row.state == "missing":
                plan.found.append(row.id)
            if row.ctime_ns is None and (ctime_ns := files[row.path].ctime_ns) is not None:
                plan.seen.append((row.id, ctime_ns))
        if row.path not in files and row.id not in plan.moves and row.state != "missing":
            plan.lost.append(row.id)
    return plan


def _is_at_rest(row: Row[Any] | None, file: ImageFile) -> bool:
    if row is None or (row.size, row.mtime_ns) != (file.size, file.mtime_ns):
        return False
    if row.ctime_ns is None:  # an older version's: what carries an answer is read once, to be sure of it
        return not file.ctime_ns or row.sha256 is None or row.status == "unlabelled"
    return file.ctime_ns in (None, row.ctime_ns)


def _match(
    loose: list[Row[Any]], pending: Mapping[str, ImageFile], digests: Mapping[str, str | None]
) -> dict[int, ImageFile]:
    """Which images the files are, by content; of equal ones that at the same path, or one with an answer."""
    known = [row for row in loose if row.sha256 is not None]
    at_same_path = {row.id: pending[row.path] for row in known if digests.get(row.path) == row.sha256}
    moves = dict(at_same_path)
    homeless: dict[str, list[int]] = {}
    for row in sorted(known, key=lambda row: (row.status != "unlabelled", -row.id)):
        if row.id not in moves:
            homeless.setdefault(row.sha256, []).append(row.id)
    placed = {file.path for file in at_same_path.values()}
    for path, sha256 in digests.items():
        if path not in placed and homeless.get(sha256 or ""):
            moves[homeless[sha256 or ""].pop()] = pending[path]
    return moves


def _move(conn: Connection, plan: _Plan) -> None:
    for chunk in batched([*plan.moves, *plan.retired], _CHUNK):  # two files may have swapped paths
        conn.execute(update(images).where(images.c.id.in_(chunk)).values(path=None, state="missing"))
    there = update(images).where(images.c.id == bindparam("image"))
    there = there.values(state="present", problem=None, path=bindparam("at"), **_ABOUT)
    placed = plan.moves | plan.touched
    if placed:
        rows = [{"image": image_id, "at": file.path, **_about(file)} for image_id, file in placed.items()]
        conn.execute(there, rows)


def _set_state(conn: Connection, ids: list[int], state: State) -> None:
    conn.execute(update(images).where(images.c.id.in_(ids)).values(state=state))


def _set_ctimes(conn: Connection, seen: list[tuple[int, int]]) -> None:
    one = update(images).where(images.c.id == bindparam("image")).values(ctime_ns=bindparam("ctime"))
    conn.execute(one, [{"image": image_id, "ctime": ctime_ns} for image_id, ctime_ns in seen])


def unread(conn: Connection, image_ids: Iterable[int] | None = None) -> list[Image]:
    """The images that are there and whose SHA-256 nobody knows: those of these ids, or all with an answer."""
    lacking = select(images).where(images.c.sha256.is_(None), images.c.state == "present")
    if image_ids is None:
        return _images(conn, lacking.where(images.c.status.in_(("labelled", "skipped", "flagged"))))
    chunks = batched(image_ids, _CHUNK)
    return [image for ids in chunks for image in _images(conn, lacking.where(images.c.id.in_(ids)))]


def hashes(conn: Connection, image_ids: Iterable[int]) -> dict[int, str]:
    """The SHA-256 of these images, where it is known."""
    found: dict[int, str] = {}
    for chunk in batched(image_ids, _CHUNK):
        query = select(images.c.id, images.c.sha256).where(
            images.c.id.in_(chunk), images.c.sha256.is_not(None)
        )
        found |= {row.id: row.sha256 for row in conn.execute(query)}
    return found


def set_hashes(conn: Connection, hashes: Mapping[int, str]) -> None:
    """Note the SHA-256 of images that had none yet: an id's content never changes."""
    first = update(images).where(images.c.id == bindparam("image"), images.c.sha256.is_(None))
    for chunk in batched(sorted(hashes.items()), _CHUNK):
        conn.execute(
            first.values(sha256=bindparam("digest")),
            [{"image": image_id, "digest": digest} for image_id, digest in chunk],
        )


def set_unreadable(conn: Connection, image_id: int, problem: str) -> None:
    """Take an image that cannot be decoded out of the queue."""
    said = legible(problem).replace("\0", "\ufffd")[:1000]  # it may quote a path with odd bytes
    conn.execute(update(images).where(images.c.id == image_id).values(state="unreadable", problem=said))
    conn.execute(delete(leases).where(leases.c.image_id == image_id))


def image(conn: Connection, image_id: int) -> Image:
    """One image. Raises UnknownName where there is none of that id."""
    rows = _images(conn, select(images).where(images.c.id == image_id))
    if not rows:
        raise UnknownName(f"no image has the id {image_id}. Ask the queue for one.")
    return rows[0]


def listed(conn: Connection, state: State | None, after: int, limit: int | None) -> list[Image]:
    """Images by rising id, from the first above `after`."""
    query = select(images).where(images.c.id > after).order_by(images.c.id).limit(limit)
    return _images(conn, query if state is None else query.where(images.c.state == state))


def _images(conn: Connection, query: Select[Any]) -> list[Image]:
    root = naming.roots(conn)
    return [
        Image(
            row.id,
            row.path,
            row.sha256,
            row.size,
            row.mtime_ns,
            row.state,
            row.problem,
            row.status,
            root[row.class_id].name if row.class_id is not None else None,
            row.shuffle,
            row.ctime_ns,
        )
        for row in conn.execute(query)
    ]
