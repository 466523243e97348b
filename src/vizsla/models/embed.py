"""Images to backbone features, once: the disk cache and the loop that fills it."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float16, UInt8

from vizsla.caching import cache_dir, explain_write_errors, write_atomically
from vizsla.data.images import load
from vizsla.data.indexed import IndexedDataset
from vizsla.errors import UnreadableImage
from vizsla.models.backbones import Backbone
from vizsla.types import Embeddings, Progress

A = TypeVar("A")
Sha = bytes

_RECORD = np.dtype([("sha", "V32"), ("crc", "<u4")])  # V, not S: numpy strips trailing zero bytes of S


class VectorStore:
    """Rows of one backbone's features in one folder, found by the content hash of their image.

    Two files only ever grow: `vectors.f16` (rows of `dim` float16) and `index.bin` (SHA-256 of the image and
    CRC-32 of the row). A row counts once its index record is whole, and that is written last, so a crash loses
    at most the batch in flight. Appends take a lock, so several processes may fill one store. A row whose
    checksum fails counts as missing and is computed again.
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder = folder
        self.dim = dim
        self._rows: dict[Sha, int] = {}
        self._known = 0
        self.refresh()

    @property
    def _vectors(self) -> Path:
        return self.folder / "vectors.f16"

    @property
    def _index(self) -> Path:
        return self.folder / "index.bin"

    def refresh(self) -> None:
        """Take note of rows that have been appended since, by whichever process."""
        records = self._records()
        for row in range(self._known, len(records)):
            self._rows[records["sha"][row].tobytes()] = row
        self._known = len(records)

    def _records(self) -> np.ndarray:
        if not self._index.exists():
            return np.empty(0, _RECORD)
        raw = self._index.read_bytes()
        records = np.frombuffer(raw, _RECORD, count=len(raw) // _RECORD.itemsize)
        whole = self._vectors.stat().st_size // (2 * self.dim) if self._vectors.exists() else 0
        return records[:whole]

    def append(self, shas: Sequence[Sha], vectors: Float16[np.ndarray, "n d"]) -> None:
        """Add rows; they are on disk when this returns."""
        records = np.array(
            [(sha, zlib.crc32(row.tobytes())) for sha, row in zip(shas, vectors, strict=True)], _RECORD
        )
        with explain_write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "lock"):
                end = len(self._records())
                _write_at(self._vectors, end * 2 * self.dim, vectors.tobytes())
                _write_at(self._index, end * _RECORD.itemsize, records.tobytes())
        self.refresh()

    def find(self, shas: Sequence[Sha]) -> np.ndarray:
        """Row number of each hash, −1 where it is missing or its row is damaged."""
        rows = np.array([self._rows.get(sha, -1) for sha in shas], np.int64)
        if not (rows >= 0).any():
            return rows
        vectors, crcs = self._map(), self._records()["crc"]
        for position in np.flatnonzero(rows >= 0):
            row = rows[position]
            if zlib.crc32(vectors[row]) != crcs[row]:
                rows[position] = -1
        return rows

    def read(self, rows: np.ndarray) -> Float16[np.ndarray, "n d"]:
        """The rows, straight from the memory map where they lie side by side, else gathered into memory."""
        if not len(rows):
            return np.empty((0, self.dim), np.float16)
        if (np.diff(rows) == 1).all():
            return self._map()[rows[0] : rows[-1] + 1]
        return np.asarray(self._map()[rows])

    def _map(self) -> np.memmap:
        return np.memmap(self._vectors, np.float16, mode="r", shape=(self._known, self.dim))


def _write_at(path: Path, offset: int, data: bytes) -> None:
    path.touch()
    with path.open("r+b") as file:
        file.truncate(offset)  # what a crash left behind beyond the last whole row
        file.seek(offset)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def embed(
    dataset: IndexedDataset,
    backbone: Backbone,
    *,
    cache: Path | None = None,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Embeddings:
    """Features of every readable image of the data set, computed at most once per image content and backbone.

    What is computed is on disk batch by batch, so an interrupted call goes on where it stopped. An image that
    cannot be read is left out, logged and named in `unreadable`.

    Args:    cache: folder of the cache; default `$VIZSLA_CACHE` or the platform's own.
             progress: called with (images done, images in all).
    Returns: float16 rows of length `backbone.dim`, in the order of the data set.
    Raises:  DiskFull.
    """
    store = VectorStore((cache or cache_dir()) / "embeddings" / backbone.key, backbone.dim)
    paths = [Path(name) for name in dataset.image_filenames]
    shas = hash_files(paths)
    for image, sha in enumerate(shas):
        if sha is None:
            dataset.mark_unreadable(image, "the file cannot be opened")
    rows = store.find([sha or b"" for sha in shas])
    first_of = {sha: image for image, sha in reversed(list(enumerate(shas))) if sha and rows[image] < 0}
    missing = sorted(first_of.values())
    if missing:
        _describe(store, backbone)
        _fill(store, backbone, dataset, missing, shas, batch_size, torch.device(device), progress)
        rows = store.find([sha or b"" for sha in shas])
        _mark_copies_of_unreadable(dataset, shas, rows, first_of)
    ids = np.flatnonzero(rows >= 0).astype(np.int64)
    unreadable = {
        i: dataset.unreadable.get(dataset.file_name(i), "unreadable")
        for i in np.flatnonzero(rows < 0).tolist()
    }
    return Embeddings(ids, store.read(rows[ids]), backbone.key, unreadable)


def _fill(
    store: VectorStore,
    backbone: Backbone,
    dataset: IndexedDataset,
    missing: list[int],
    shas: Sequence[Sha | None],
    batch_size: int,
    device: torch.device,
    progress: Progress | None,
) -> None:
    transform = backbone.transform
    module = backbone.module.to(device).to(memory_format=torch.channels_last)

    def decode(image: int) -> UInt8[np.ndarray, "3 s s"] | str:
        try:
            return transform.pixels(load(Path(dataset.image_filenames[image]), size=transform.shorter_side))
        except UnreadableImage as error:
            return str(error)

    finished = len(dataset) - len(missing)
    with ThreadPoolExecutor(max_workers=max(2, min(8, os.cpu_count() or 2))) as pool:
        decoded = _ahead(pool, decode, missing, 2 * batch_size)
        for start in range(0, len(missing), batch_size):
            images = missing[start : start + batch_size]
            pixels = list(islice(decoded, len(images)))
            for image, found in zip(images, pixels, strict=True):
                if isinstance(found, str):
                    dataset.mark_unreadable(image, found)
            good = [
                (image, found)
                for image, found in zip(images, pixels, strict=True)
                if not isinstance(found, str)
            ]
            if good:
                vectors = forward(module, backbone, np.stack([found for _, found in good]), device)
                store.append([shas[image] or b"" for image, _ in good], vectors)
            finished += len(images)
            if progress:
                progress(finished, len(dataset))


@torch.inference_mode()
def forward(
    module: torch.nn.Module, backbone: Backbone, pixels: UInt8[np.ndarray, "n 3 s s"], device: torch.device
) -> Float16[np.ndarray, "n d"]:
    """One batch through the network."""
    inputs = backbone.transform.normalise(torch.from_numpy(pixels).to(device))
    features = module(inputs.contiguous(memory_format=torch.channels_last))
    return features.float().clamp(-65504, 65504).half().cpu().numpy()


def _ahead(pool: ThreadPoolExecutor, work, items: Sequence[int], depth: int) -> Iterator:  # type: ignore[no-untyped-def]
    """`map(work, items)` in threads, at most `depth` results ahead of the consumer."""
    waiting = [pool.submit(work, item) for item in items[:depth]]
    for item in items[depth:]:
        yield waiting.pop(0).result()
        waiting.append(pool.submit(work, item))
    while waiting:
        yield waiting.pop(0).result()


def hash_files(paths: Sequence[Path]) -> list[Sha | None]:
    """SHA-256 of each file's content; None for a file that cannot be opened."""

    def one(path: Path) -> Sha | None:
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        except OSError:
            return None

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, paths, chunksize=64))


def _mark_copies_of_unreadable(
    dataset: IndexedDataset, shas: Sequence[Sha | None], rows: np.ndarray, first_of: dict[Sha, int]
) -> None:
    for image in np.flatnonzero(rows < 0).tolist():
        sha = shas[image]
        if sha and first_of[sha] != image:
            dataset.mark_unreadable(
                image, f"same content as {dataset.file_name(first_of[sha])}, which is unreadable"
            )


def _describe(store: VectorStore, backbone: Backbone) -> None:
    """A note for people who look into the cache folder."""
    note = {
        "backbone": backbone.name,
        "weights": backbone.digest,
        "transform": repr(backbone.transform),
        "dim": backbone.dim,
    }
    write_atomically(store.folder / "backbone.json", json.dumps(note, indent=1))
