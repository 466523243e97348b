"""What callers hand in, checked before it counts. N rows, l of them labelled, C classes."""

from __future__ import annotations

import math
import operator
from typing import Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vizsla.errors import BadArray, BadOption
from vizsla.functional.rows import as_rows
from vizsla.functional.uncertainty import in_cache

_KINDS = {"O": "objects", "U": "texts", "S": "texts"}


def whole(name: str, value: object, least: int | None = None) -> int:
    """A whole number, also one that is written 3.0.

    Raises: BadOption for anything else, and below `least`.

    >>> whole("n", 3.0, 1)
    3
    """
    wanted = "a whole number" if least is None else f"a whole number of at least {least}"
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        if isinstance(value, float | np.floating) and value.is_integer():
            value = int(value)
        if not isinstance(value, SupportsIndex):
            raise TypeError
        number = operator.index(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise BadOption(f"{name} must be {wanted}, not {value!r}.") from None
    if least is not None and number < least:
        raise BadOption(f"{name} must be at least {least}, not {number}.")
    return number


def numbers(name: str, given: object, wanted: str) -> Tensor:
    """Real numbers from an array of any library, a table or lists, as a tensor that shares their memory where it can.

    Args:   wanted: the shape, for the message.
    Raises: BadArray for what holds no numbers, or rows of different lengths.
    """
    try:
        rows = _tensor(given) if _is_torch(given) else as_rows(_array(given))
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise BadArray(f"{name} must be numbers of shape {wanted}, not {_described(given)}.") from None
    if rows.is_floating_point():
        return rows
    return rows.float() if rows.itemsize <= 2 else rows.double()  # which hold them exactly


def _is_torch(given: object) -> bool:
    return isinstance(given, Tensor) or (
        isinstance(given, list | tuple) and len(given) > 0 and all(isinstance(one, Tensor) for one in given)
    )


def _tensor(given: Any) -> Tensor:
    rows = given if isinstance(given, Tensor) else torch.stack([one.detach() for one in given])
    if rows.is_complex() or rows.is_quantized:
        raise TypeError
    return (rows if rows.layout == torch.strided else rows.to_dense()).detach()


def _array(given: Any) -> np.ndarray:
    if isinstance(given, np.ma.MaskedArray):
        given = np.ma.filled(given.astype(np.float64), np.nan)
    given = given.toarray() if hasattr(given, "toarray") else given  # sparse matrices of scipy
    array = np.asarray(given)
    if array.dtype == object and array.ndim and not any(isinstance(one, str | bytes) for one in array.flat):
        array = array.astype(np.float64)
    if array.dtype.kind not in "fiub":
        raise TypeError
    return array


def _described(given: object) -> str:
    """What was given, in a few words."""
    if given is None:
        return "None"
    kind, shape = type(given).__name__, getattr(given, "shape", None)
    if isinstance(given, np.ndarray | Tensor):
        kind = _KINDS.get(getattr(given.dtype, "kind", ""), str(given.dtype))
    if isinstance(shape, tuple):
        return f"{kind} of shape {tuple(shape)}"
    return f"a {kind}" + (f" of {len(given)}" if isinstance(given, list | tuple) else "")


def as_probs(
    probs: object, rows: int | None = None, classes: int | None = None, *, name: str = "probs"
) -> Float[Tensor, "n c"]:
    """Checked class probabilities as a tensor.

    Args:   probs: anything that `numbers` reads. rows, classes: how many there must be; None: any number, 2 or more.
            name: of what was given, for messages.
    Raises: BadArray on a wrong shape, NaN, negative entries or rows that do not sum to one.
    """
    wanted = f"({'images' if rows is None else rows}, {'classes ≥ 2' if classes is None else classes})"
    tensor = numbers(name, probs, wanted)
    least = 2 if classes is None else 1
    if (
        tensor.ndim != 2
        or tensor.shape[1] < least
        or tensor.shape[0] != (tensor.shape[0] if rows is None else rows)
        or tensor.shape[1] != (tensor.shape[1] if classes is None else classes)
    ):
        told = "" if rows is None else ": a row for each image that was asked about"
        told += "" if rows is None or classes is None else ", a column for each class"
        raise BadArray(f"{name} must have shape {wanted}{told}, not {tuple(tensor.shape)}.")
    tolerance = 1e-2 if tensor.dtype in (torch.float16, torch.bfloat16) else 1e-3
    for place, block in in_cache(tensor):
        off = (block @ block.new_ones(block.shape[1]) - 1).abs()
        if off.max() <= tolerance and block.aminmax().min >= 0:  # False for NaN
            continue
        bad = ~((off <= tolerance) & (block >= 0).all(dim=1))
        row = int(bad.nonzero()[0, 0])
        raise BadArray(
            f"{name} row {place.start + row} is not a probability row: it sums to {block[row].sum():.4g} and its "
            f"smallest entry is {block[row].min():.4g}. Pass softmax outputs, not logits."
        )
    return tensor


def row_numbers(name: str, given: Any, total: int) -> Int64[np.ndarray, " l"]:
    """Distinct row numbers, also from a mask of all rows.

    Raises: BadArray for rows that are not there, and for one named twice.
    """
    if given is None:
        return np.empty(0, np.int64)
    rows = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    if rows.size == 0 and rows.ndim:
        return np.empty(0, np.int64)
    if rows.dtype == bool:
        if rows.shape != (total,):
            raise BadArray(
                f"{name} is a mask of shape {rows.shape}, but there are {total} rows. "
                "Give one value for each, or row numbers."
            )
        return np.flatnonzero(rows).astype(np.int64)
    found = _whole_rows(rows)
    if found is None:
        kind = f"{rows.dtype} of shape {rows.shape}" if rows.ndim else f"a {type(given).__name__}"
        raise BadArray(f"{name} must be a list of row numbers, not {kind}.")
    outside = found[(found < 0) | (found >= total)]
    if outside.size:
        raise BadArray(f"{name} has row {outside[0]}, but rows go from 0 to {total - 1}.")
    if len(np.unique(found)) < len(found):
        raise BadArray(f"{name} names a row twice. Name each labelled row once.")
    return found


def _whole_rows(rows: np.ndarray) -> Int64[np.ndarray, " l"] | None:
    """A vector of whole numbers of whatever type; None where it is none."""
    if rows.ndim != 1:
        return None
    if rows.dtype == object:
        alike = all(isinstance(one, int | np.integer) and not isinstance(one, bool) for one in rows)
        return rows.astype(np.int64) if alike else None
    if rows.dtype.kind == "f" and np.isfinite(rows).all() and (rows == np.round(rows)).all():
        return rows.astype(np.int64)
    return rows.astype(np.int64) if rows.dtype.kind in "iu" else None


def class_codes(labels: Any, known: int) -> Int64[np.ndarray, " l"]:
    """Classes as numbers from 0, in the order of their names; names or numbers of any kind.

    Args:   known: how many rows are labelled.
    Raises: BadArray where it is not one class for each of them.
    """
    names = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if names.ndim != 1 or len(names) != known:
        size = f"{len(names)}" if names.ndim == 1 else f"shape {names.shape}"
        raise BadArray(f"labelled has {known} rows but labels has {size}. Give one class for each.")
    missing = np.flatnonzero([_is_missing(name) for name in names.tolist()])
    if len(missing):
        raise BadArray(
            f"labels names no class for the labelled row at place {missing[0]} ({names[missing[0]]}). "
            "Leave that row out of labelled and labels."
        )
    if names.dtype == object and len({type(name) for name in names}) > 1:
        names = np.array([str(name) for name in names])
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _is_missing(name: object) -> bool:
    return (
        name is None
        or type(name).__name__ in ("NAType", "NaTType")
        or (isinstance(name, float) and math.isnan(name))
    )
