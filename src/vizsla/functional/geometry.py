"""Where embeddings lie: the directions in which a pool varies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from vizsla.functional.mapped import letting_go
from vizsla.functional.threads import one_thread

ROWS_AT_ONCE = 4096
AXES = 256
_ROOM = 128 << 20
SETTLING = 65_536
"""Evenly spaced rows that settle the axes of any pool."""
_REMEMBERED = 4  # pools whose axes are kept, about a megabyte each


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """The directions in which rows vary most, and their centre."""

    centre: Float[np.ndarray, " d"]
    """In float32, or in float64 where such rows lie so far from the origin that it matters."""
    axes: Float[np.ndarray, "r d"]
    """Orthonormal, the direction of greatest variance first."""

    def __call__(self, rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n r"]:
        """Coordinates of the rows on the axes, seen from the centre, in float32."""
        coordinates = np.empty((len(rows), len(self.axes)), np.float32)
        for part in _parts(rows):
            coordinates[part] = self._of(rows[part])
        return coordinates

    def directions(self, rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n r"]:
        """Those coordinates scaled to unit length: where a head sees the rows."""
        found = np.empty((len(rows), len(self.axes)), np.float32)
        for part in _parts(rows):
            found[part] = unit_rows(self._of(rows[part]))
        return found

    def _of(self, rows: Float[np.ndarray, "b d"]) -> Float[np.ndarray, "b r"]:
        return _seen_from(self.centre, rows) @ self.axes.T


def axes_that_fit(n: int, row_bytes: int) -> int:
    """How many coordinates of each of n rows to keep: 256, fewer where that is over 128 MB and a quarter of the rows.

    >>> axes_that_fit(100_000, 2048), axes_that_fit(1_000_000, 2048)
    (256, 128)
    """
    room = max(_ROOM, n * row_bytes // 4)
    return max(1, min(AXES, room // (4 * max(n, 1))))


def principal_axes(rows: Float[np.ndarray, "n d"], most: int = AXES) -> PrincipalAxes:
    """At most `most` principal axes of the rows; directions without variance are left out.

    Of more than 131,072 rows every second, third … is looked at, so that 65,536 or more are: those settle the axes.

    Args:    rows: n ≥ 1 rows of any float type; read in parts, so they may be a memory map.
    Returns: r ≤ min(most, n − 1, d) axes.
    Source:  Jolliffe 2002, Principal Component Analysis, doi:10.1007/b98835.

    >>> principal_axes(np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]])).axes.round(6).tolist() in ([[1, 0]], [[-1, 0]])
    True
    """
    rows = rows[:: max(1, len(rows) // SETTLING)]
    key = _fingerprint(rows, most)
    found = _recent.get(key)
    if found is None:
        found = _recent[key] = _principal_axes(rows, most)
        for oldest in list(_recent)[:-_REMEMBERED]:
            _recent.pop(oldest, None)
    return found


_recent: dict[bytes, PrincipalAxes] = {}


def _fingerprint(rows: Float[np.ndarray, "n d"], most: int) -> bytes:
    """Of every value. To read a pool costs a twentieth of finding its axes, which every query of a loop needs."""
    digest = hashlib.sha256(repr((rows.shape, rows.dtype.str, most)).encode())
    for part in _parts(rows):
        digest.update(np.ascontiguousarray(rows[part]).data)
    return digest.digest()


def _principal_axes(rows: Float[np.ndarray, "n d"], most: int) -> PrincipalAxes:
    centre = np.zeros(rows.shape[1])
    for part in _parts(rows):
        centre += np.asarray(rows[part], np.float64).sum(axis=0)
    centre = _rounded(centre / len(rows), rows)
    scatter = _scatter(rows, centre)
    with one_thread():
        variances, directions = np.linalg.eigh(scatter)
    kept = np.flatnonzero(variances > 1e-7 * max(variances[-1], 1e-12))[::-1][:most]
    return PrincipalAxes(centre, np.ascontiguousarray(directions[:, kept].T, np.float32))


def _scatter(rows: Float[np.ndarray, "n d"], centre: Float[np.ndarray, " d"]) -> Float64[np.ndarray, "d d"]:
    total = np.zeros((len(centre), len(centre)))
    for part in _parts(rows):
        centred = _seen_from(centre, rows[part])
        total += centred.T @ centred
    return total


def _rounded(centre: Float64[np.ndarray, " d"], rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " d"]:
    """The centre in float32, unless the rows are more exact and rounding would move it by a part of their spread."""
    rounded = centre.astype(np.float32)
    spread = np.abs(rows[:ROWS_AT_ONCE] - centre).mean() if rows.dtype == np.float64 else np.inf
    return rounded if np.abs(centre - rounded).max(initial=0) < 1e-6 * spread else centre


def _seen_from(centre: Float[np.ndarray, " d"], rows: Float[np.ndarray, "b d"]) -> Float[np.ndarray, "b d"]:
    """rows − centre in float32; float64 rows are subtracted in float64, so that only what is left is rounded."""
    kind = np.result_type(rows.dtype, np.float32)
    return np.asarray(np.asarray(rows, kind) - centre.astype(kind), np.float32)


def _parts(rows: np.ndarray) -> Iterator[slice]:
    places = (slice(start, start + ROWS_AT_ONCE) for start in range(0, len(rows), ROWS_AT_ONCE))
    return letting_go(rows, places)


def unit_rows(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows scaled to length one, in float32; zero rows stay zero."""
    rows = np.asarray(vectors, np.float32)
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))  # `norm` would write down all squares
    return rows / np.maximum(lengths, 1e-12)[:, None]
