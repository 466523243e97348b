"""Images to backbone features, once: the disk cache and the loop that fills it."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float16, Float32, Int64, UInt8

from vizsla.caching import cache_dir, explain_write_errors, write_atomically
from vizsla.data import limits
from vizsla.data.deep import EDITION, may_be_deep
from vizsla.data.images import explained, is_deep, load
from vizsla.data.indexed import IndexedDataset
from vizsla.data.sources import Source, Stamp
from vizsla.errors import BadWeights, NoImages, UnreadableImage, UserError
from vizsla.models.backbones import Backbone, Transform, one_thread
from vizsla.models.contents import Contents, Sha
from vizsla.models.runtime import Runtime, TorchRuntime, best_runtime, cores, is_out_of_memory
from vizsla.types import Embeddings, Progress

log = logging.getLogger(__name__)

HALF = 65504.0
"""The largest number in half precision, in which features are kept."""

_STAMPS = 500  # files
_TRIAL = 4  # batches of each core that show how long an image takes

A = TypeVar("A")
B = TypeVar("B")
Decoded = tuple[Sha | None, "UInt8[np.ndarray, '3 s s'] | str | None"]
"""A file's content hash, None if it could not be opened; its pixels, why there are none, or None if they are known."""
Pixels = tuple[list[Sha], "list[UInt8[np.ndarray, '3 s s']]", int]
"""A batch: hashes and pixels of its readable images, and how many files it took."""

_RECORD = np.dtype([("sha", "V32"), ("crc", "<u4")])  # V, not S: numpy strips trailing zero bytes of S


def embed(
    dataset: IndexedDataset,
    backbone: Backbone,
    *,
    cache: Path | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> Embeddings:
    """Features of every readable image of the data set, computed at most once per image content and backbone.

    What is computed is on disk batch by batch, so an interrupted call goes on where it stopped. An image that
    cannot be read is left out, logged and named in `unreadable`. The fastest runtime is used that pays.

    Args:    cache: folder of the cache; default `$VIZSLA_CACHE` or the platform's own.
             device: default: a GPU where there is one.
             batch_size: images computed at once; default: what suits the runtime. Halved where memory runs out.
             progress: called with (images done, images in all).
    Returns: float16 rows of length `backbone.dim`, in the order of the data set; memory-mapped where they
             lie side by side in the cache.
    Raises:  NoImages when none can be read; DiskFull; BadWeights when a feature is not a number.
    """
    store = vector_store(backbone, cache)
    names = [dataset.file_name(image) for image in range(len(dataset))]
    engine = Engine(backbone, device, batch_size=batch_size, cache=cache)
    found = embed_files(dataset.source, names, engine, store, progress=progress)
    if found.reasons and len(found.reasons) == len(dataset):
        raise NoImages(
            f"none of the {len(dataset)} images in {dataset.dir_path} can be read; "
            f"{dataset.file_name(0)}: {found.reasons[0]} Replace the files, or give another folder."
        )
    dataset.mark_all_unreadable(found.reasons)
    if progress:
        progress(len(dataset), len(dataset))
    ids = np.flatnonzero(found.rows >= 0).astype(np.int64)
    contents = tuple((found.shas[image] or b"").hex() for image in ids.tolist())
    return Embeddings(ids, store.read(found.rows[ids]), backbone.key, found.reasons, contents)


def vector_store(backbone: Backbone, cache: Path | None = None) -> VectorStore:
    """Where the features of this backbone lie."""
    return VectorStore((cache or cache_dir()) / "embeddings" / backbone.key, backbone.dim)


@dataclass(frozen=True, eq=False)
class Embedded:
    """Where the features of files lie; in the order of the files."""

    shas: list[Sha | None]
    """Content of each; None for a file that could not be opened."""
    rows: Int64[np.ndarray, " n"]
    """Row in the vector store, −1 where there is none."""
    reasons: dict[int, str]
    """Place in the list → why that file has no features."""


def embed_files(
    source: Source,
    names: Sequence[str],
    engine: Engine,
    store: VectorStore,
    *,
    more: int = 0,
    progress: Progress | None = None,
) -> Embedded:
    """Have the features of these files in the store, computing those of contents that it does not know.

    Args: more: files that later calls will bring, which decide whether preparing a faster runtime pays.
    """
    files = _Files(source, names, engine.backbone.transform, store)
    missing = np.flatnonzero(store.find(files.shas, names) < 0).tolist()
    done = len(names) - len(missing)
    if missing:
        describe(store, engine.backbone)
    for part in engine.portions(missing, more):
        for shas, vectors, finished in engine.compute(files.decoded(part, engine.batch)):
            if shas:
                store.append(shas, vectors)
            done += finished
            if progress:
                progress(done, len(names))
    rows = store.find(files.shas, names)
    files.explain(rows)
    return Embedded(files.shas, rows, files.reasons)


class Engine:
    """Runs a backbone batch by batch; changes to a faster runtime once the images to come are worth preparing it."""

    def __init__(
        self,
        backbone: Backbone,
        device: torch.device | str | None = None,
        *,
        batch_size: int | None = None,
        cache: Path | None = None,
    ) -> None:
        self.backbone = backbone
        self.device = device
        self._cache = cache
        self._batch_size = batch_size
        self._tried: tuple[int, float] = (0, 0.0)  # images, and the seconds that they took

    @cached_property
    def runtime(self) -> Runtime:
        return best_runtime(self.backbone, self.device, cache=self._cache)

    @property
    def batch(self) -> int:
        """Images to compute at once."""
        return self._batch_size or self.runtime.batch

    def portions(self, images: Sequence[int], more: int) -> Iterator[Sequence[int]]:
        """The images in one portion, or first some that show how long they take, so that the rest may be faster."""
        if not images:
            return
        few = _TRIAL * self.batch * self.runtime.at_once
        while images and self._tried[0] < few:
            yield images[:few]
            images = images[few:]
        if images:
            if isinstance(self.runtime, TorchRuntime):
                count, seconds = self._tried
                to_come = seconds / count * (len(images) + more)
                self.runtime = best_runtime(self.backbone, self.device, seconds=to_come, cache=self._cache)
            yield images

    def compute(
        self, batches: Iterable[Pixels]
    ) -> Iterator[tuple[list[Sha], Float16[np.ndarray, "n d"], int]]:
        """The batches with features for pixels, several at a time and each in one thread."""
        began, count, runtime = time.monotonic(), 0, self.runtime
        with one_thread():
            for shas, vectors, finished in in_threads(self._features, batches, ahead=runtime.at_once):
                count += len(shas)
                yield shas, vectors, finished
        self._tried = self._tried[0] + count, self._tried[1] + time.monotonic() - began

    def _features(self, batch: Pixels) -> tuple[list[Sha], Float16[np.ndarray, "n d"], int]:
        shas, pixels, finished = batch
        if not pixels:
            return shas, np.empty((0, self.backbone.dim), np.float16), finished
        found = self._run(np.stack(pixels))
        if np.isnan(found).any():
            raise BadWeights(
                f"backbone {self.backbone.name} gives features that are no numbers. Check its weights."
            )
        return shas, np.clip(found, -HALF, HALF).astype(np.float16), finished

    def _run(self, pixels: UInt8[np.ndarray, "n 3 s s"]) -> Float32[np.ndarray, "n d"]:
        """The features; in halves where memory does not suffice, and smaller batches from then on."""
        try:
            return self.runtime(pixels)
        except Exception as error:
            if len(pixels) == 1 or not is_out_of_memory(error):
                raise
        half = (len(pixels) + 1) // 2
        if self.batch > half:
            log.warning("not enough memory for %d images at once: going on with %d", len(pixels), half)
            self._batch_size = half
        return np.concatenate([self._run(pixels[:half]), self._run(pixels[half:])])


class _Files:
    """Files by content: the hash of each, and why those without features have none.

    A file is hashed and decoded from the same bytes, so one that changes meanwhile cannot give its features to
    another content. One that has not changed since it was last read is known by its size and times.
    """

    def __init__(
        self, source: Source, names: Sequence[str], transform: Transform, store: VectorStore
    ) -> None:
        self.source = source
        self.names = names
        self.transform = transform
        self.store = store
        self.reasons: dict[int, str] = {}
        self._contents = Contents(store.folder.parent / "contents.sqlite")
        self._stamps = stamps(source, names)
        self._keys = [source.key(name) for name in names]
        self.shas = self._contents.find(self._keys, self._stamps)
        self._taken: set[Sha] = set()
        self._lock = Lock()

    def decoded(self, images: Sequence[int], batch_size: int) -> Iterator[Pixels]:
        """The images in batches; each content once, and only if the store lacks it."""
        results = in_threads(self._decode, self._read(images), ahead=2 * batch_size)
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            shas, pixels = [], []
            for image, (sha, found) in zip(batch, islice(results, len(batch)), strict=True):
                self.shas[image] = sha
                if isinstance(found, str):
                    self.reasons[image] = found
                elif sha is not None and found is not None:
                    shas.append(sha)
                    pixels.append(found)
            self.store.confirm(
                [sha for image in batch if (sha := self.shas[image]) and sha not in self._taken]
            )
            places = [(self._keys[image], self._stamps[image], self.shas[image]) for image in batch]
            self._contents.note(*zip(*places, strict=True))
            yield shas, pixels, len(batch)

    def _read(self, images: Sequence[int]) -> Iterator[tuple[int, Callable[[], bytes | str]]]:
        """The images with what gives their content: read from a disk when it is called, else fetched ahead of that."""
        if not self.source.at_once:
            return ((image, partial(self._content, image)) for image in images)
        ahead = 2 * self.source.at_once
        return in_threads(self._fetched, images, ahead=ahead, threads=self.source.at_once)

    def _fetched(self, image: int) -> tuple[int, Callable[[], bytes | str]]:
        content = self._content(image)
        return image, lambda: content

    def _content(self, image: int) -> bytes | str:
        """What the file holds, or why that cannot be known."""
        name, stamp = self.names[image], self._stamps[image]
        try:
            if stamp is not None:
                limits.check_file(stamp[0])
            return self.source.read(name)
        except (UnreadableImage, MemoryError) as error:
            return str(explained(self.source.where(name), error))
        except OSError as error:
            far = f"it cannot be fetched: {error.strerror or error}"
            return far if self.source.at_once else "the file cannot be opened"

    def _decode(self, found: tuple[int, Callable[[], bytes | str]]) -> Decoded:
        image, content = found[0], found[1]()
        if isinstance(content, str):
            return None, content
        sha = hashlib.sha256(content).digest()
        if not self._take(sha, content):
            return sha, None
        file = io.BytesIO(content)
        file.name = self.source.where(self.names[image])  # what the error message says
        try:
            return sha, self.transform.pixels(load(file, size=self.transform.shorter_side))
        except UnreadableImage as error:
            return sha, str(error)
        except MemoryError as error:
            return sha, str(explained(file.name, error))

    def _take(self, sha: Sha, content: bytes) -> bool:
        """Whether this content is still to be computed, and nobody else has taken it."""
        holds = not self.store.is_older(sha) or not is_deep(content)
        with self._lock:
            if sha in self._taken or (holds and self.store.find([sha])[0] >= 0):
                return False
            self._taken.add(sha)
            return True

    def explain(self, rows: Int64[np.ndarray, " n"]) -> None:
        """Find a reason for every file that has no features."""
        original = {self.shas[image]: image for image in self.reasons if self.shas[image]}
        for image in np.flatnonzero(rows < 0).tolist():
            if image not in self.reasons:
                twin = original.get(self.shas[image])
                self.reasons[image] = (
                    "the cache gives back other features than were written"
                    if twin is None
                    else f"same content as {self.names[twin]}, which is unreadable"
                )


class VectorStore:
    """Rows of one backbone's features in one folder, found by the content hash of their image.

    Two files only ever grow: `vectors.f16` (rows of `dim` float16) and `index.bin` (SHA-256 of the image and
    CRC-32 of the row). A row counts once its index record is whole, and that is written last, so a crash loses
    at most the batches in flight. Appends take a lock, so several processes may fill one store. A row whose
    checksum fails counts as missing and is computed again; so nothing needs to be forced to the disk.

    Of a content with several rows the last counts. `edition.json` says how many rows were there before deep pictures
    (see `vizsla.data.deep`) looked as they do now: they hold for others only.
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder = folder
        self.dim = dim
        self._rows: dict[Sha, int] = {}
        self._crcs: list[int] = []
        self._refresh()
        self._older = self._count_older()

    @property
    def _vectors(self) -> Path:
        return self.folder / "vectors.f16"

    @property
    def _index(self) -> Path:
        return self.folder / "index.bin"

    @property
    def _edition(self) -> Path:
        return self.folder / "edition.json"

    def _refresh(self) -> None:
        """Take note of rows that have been appended since, by whichever process."""
        if not (self._index.exists() and self._vectors.exists()):
            return
        known = len(self._crcs)
        with self._index.open("rb") as file:
            file.seek(known * _RECORD.itemsize)
            raw = file.read()
        whole = self._vectors.stat().st_size // (2 * self.dim)
        count = max(0, min(len(raw) // _RECORD.itemsize, whole - known))
        records = np.frombuffer(raw, _RECORD, count=count)
        self._rows |= {sha.tobytes(): row for row, sha in enumerate(records["sha"], start=known)}
        self._crcs += records["crc"].tolist()

    def append(self, shas: Sequence[Sha], vectors: Float16[np.ndarray, "n d"]) -> None:
        """Add the rows that no other process has added meanwhile."""
        with explain_write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "lock"):
                self._note_edition(self._older)
                self._refresh()
                rows = self.find(shas)
                new = rows < self._older  # also those that there are not: −1
                if not new.any():
                    return
                records = [
                    (sha, zlib.crc32(row.tobytes()))
                    for sha, row, wanted in zip(shas, vectors, new, strict=True)
                    if wanted
                ]
                end = len(self._crcs)
                _write_at(self._vectors, end * 2 * self.dim, vectors[new].tobytes())
                _write_at(self._index, end * _RECORD.itemsize, np.array(records, _RECORD).tobytes())
                self._refresh()

    def _count_older(self) -> int:
        """How many rows are of an older edition, by the note on it; where there is none, all that there are now."""
        count = len(self._crcs)
        try:
            said = json.loads(self._edition.read_text("utf-8"))
            older = min(int(said["older"]), count) if said["edition"] == EDITION else count
        except (OSError, ValueError, KeyError, TypeError):
            older = count
        if count:
            with suppress(OSError, UserError):  # a cache that may only be read
                self._note_edition(older)
        return older

    def _note_edition(self, older: int) -> None:
        now = json.dumps({"edition": EDITION, "older": older})
        if not (self._edition.exists() and self._edition.read_text("utf-8") == now):
            write_atomically(self._edition, now)

    def is_older(self, sha: Sha) -> bool:
        """Whether there is a row of this content, and it is of an older edition."""
        return 0 <= self._rows.get(sha, -1) < self._older

    def confirm(self, shas: Sequence[Sha]) -> None:
        """Take the rows of these contents into this edition: they are no deep pictures."""
        older = [sha for sha in dict.fromkeys(shas) if self.is_older(sha)]
        rows = self.find(older)
        if (rows >= 0).any():
            good = np.flatnonzero(rows >= 0)
            self.append([older[place] for place in good.tolist()], np.array(self.read(rows[good])))

    def find(self, shas: Sequence[Sha | None], names: Sequence[str] | None = None) -> Int64[np.ndarray, " n"]:
        """Row number of each hash, −1 where it is missing or its row is damaged.

        Args: names: of the files. Where one may be of a deep picture, a row of an older edition does not count.
        """
        rows = np.array([self._rows.get(sha, -1) if sha else -1 for sha in shas], np.int64)
        found = np.flatnonzero(rows >= 0)
        if len(found):
            vectors = self._map()
            damaged = [zlib.crc32(vectors[row]) != self._crcs[row] for row in rows[found].tolist()]
            rows[found[damaged]] = -1
        if names is not None and self._older:
            for place in np.flatnonzero((rows >= 0) & (rows < self._older)).tolist():
                if may_be_deep(names[place]):
                    rows[place] = -1
        return rows

    def __len__(self) -> int:
        """How many contents have a row."""
        return len(self._rows)

    def check(self, most: int = 100_000) -> tuple[int, int]:
        """How many rows were looked at, and how many of them are damaged; evenly spaced ones where there are more."""
        shas = list(self._rows)
        some = shas[:: -(-len(shas) // most) or 1]
        return len(some), int((self.find(some) < 0).sum())

    def read(self, rows: Int64[np.ndarray, " n"]) -> Float16[np.ndarray, "n d"]:
        """The rows, straight from the memory map where they lie side by side, else gathered into memory."""
        if not len(rows):
            return np.empty((0, self.dim), np.float16)
        if (np.diff(rows) == 1).all():
            return self._map()[rows[0] : rows[-1] + 1]
        return np.asarray(self._map()[rows])

    def _map(self) -> np.memmap:
        return np.memmap(self._vectors, np.float16, mode="r", shape=(len(self._crcs), self.dim))


def _write_at(path: Path, offset: int, data: bytes) -> None:
    """Write there, and cut off what a crash left behind beyond it."""
    path.touch()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
        file.flush()
        file.truncate()


def stamps(source: Source, names: Sequence[str]) -> list[Stamp | None]:
    """Stamps of all files, many in each thread: one takes less time than a thread's turn, unless the disk is far."""
    parts = [names[start : start + _STAMPS] for start in range(0, len(names), _STAMPS)]

    def stamp(name: str) -> Stamp | None:
        try:
            return source.stamp(name)
        except OSError:
            return None

    return list(chain.from_iterable(in_threads(lambda part: [stamp(name) for name in part], parts, ahead=16)))


def in_threads(
    work: Callable[[A], B], items: Iterable[A], *, ahead: int, threads: int | None = None
) -> Iterator[B]:
    """`map(work, items)` in threads, at most `ahead` results ahead of the consumer."""
    with ThreadPoolExecutor(max_workers=threads or min(8, cores())) as pool:
        rest = iter(items)
        waiting = deque(pool.submit(work, item) for item in islice(rest, ahead))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in islice(rest, 1))
        finally:
            for one in waiting:  # nobody wants them any more
                one.cancel()


def describe(store: VectorStore, backbone: Backbone) -> None:
    """A note for people who look into the cache folder."""
    note = {
        "backbone": backbone.name,
        "weights": backbone.digest,
        "transform": repr(backbone.transform),
        "dim": backbone.dim,
    }
    write_atomically(store.folder / "backbone.json", json.dumps(note, indent=1))
