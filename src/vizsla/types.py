"""The few types that rooms hand to each other. N images, B batch, D embedding size, C classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from jaxtyping import Float, Int64

Progress = Callable[[int, int], None]
"""Called with (done, total) as long work goes on."""


@dataclass(frozen=True, eq=False)
class Batch:
    """The images a query chose, most wanted first."""

    ids: Int64[np.ndarray, " b"]
    """Distinct image ids (positions in the data set), in chosen order."""
    scores: Float[np.ndarray, " b"]
    """Acquisition score of each, higher = label sooner."""
    strategy: str
    """The strategy that really chose: `random` where another had no model to ask yet."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Backbone features of images, computed once."""

    ids: Int64[np.ndarray, " n"]
    """Which image of the data set each row belongs to; ascending."""
    vectors: Float[np.ndarray, "n d"]
    """float16 rows, memory-mapped from the cache."""
    key: str
    """Names backbone, weights, transform and precision: equal keys, comparable vectors."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """Image id → reason, for the images that could not be embedded."""
    sha256: tuple[str, ...] = ()
    """Content of each row's file, in hex digits; empty where that is not known."""

    def rows(self, ids: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " m"]:
        """Row number of each of these images."""
        return np.searchsorted(self.ids, ids).astype(np.int64)

    def subset(self, ids: Int64[np.ndarray, " m"]) -> Embeddings:
        """Only these images, numbered anew 0 … m−1 in the order given, as `IndexedDataset.subset` does."""
        rows = self.rows(ids)
        whole = len(rows) == len(self.ids) and (np.diff(rows) == 1).all()
        vectors = self.vectors if whole else self.vectors[rows]  # whole: no copy, still the memory map
        return Embeddings(np.arange(len(ids), dtype=np.int64), vectors, self.key)


@dataclass(frozen=True)
class Label:
    """One answer of an oracle. Labels are only ever appended; the newest of an image wins."""

    file_name: str
    """Path of the image relative to its folder, with forward slashes."""
    status: str
    """`labelled`, `skipped` or `undone`."""
    label: str | None = None
    """Class name, where the status is `labelled`."""
    annotator: str = "me"
    source: str = "al"
    """How the image was chosen: `al`, `random` or `import`."""
    round: int = 0
    lead_ms: int | None = None
    """Milliseconds between question and answer."""
    labelled_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
