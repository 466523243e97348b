"""Arrays from files, for commands that work on plain numbers."""

from __future__ import annotations

import csv
import itertools
import zipfile
from contextlib import contextmanager
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from vizsla.data.names import as_text
from vizsla.data.remote import downloaded, is_url, upload
from vizsla.errors import BadArray, BadOption

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from vizsla.types import Embeddings

_MAPPED = ("embeddings", "probs", "draws")  # the large ones: read from the disk as they are needed
_AT_ONCE = 4096  # rows written in one piece


def load(name: str, file: Path | str | None) -> np.ndarray | None:
    """An array of a .npy, .npz or .parquet file, or of the URL of one. `name` is the option it was given for.

    A .npz file may hold several: the one of that name is taken, or the only one. A Parquet file gives its one
    column of lists, or all its columns of numbers side by side; one column of numbers or texts is a vector.
    """
    if file is None:
        return None
    if isinstance(file, str) and is_url(file):
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            return load(name, downloaded(file, Path(folder)))
    file = Path(file)
    if not file.is_file():
        raise BadArray(f"no file {file}. Give --{name} the path of a .npy, .npz or .parquet file.")
    if file.suffix == ".parquet":
        return _parquet(name, file)
    return _numpy(name, file)


def _numpy(name: str, file: Path) -> np.ndarray:
    import numpy as np

    try:
        found = np.load(file, allow_pickle=False, mmap_mode="r" if name in _MAPPED else None)
        if isinstance(found, np.ndarray):
            return found
        with found:
            names = found.files
            if name not in names and len(names) != 1:
                held = ", ".join(names) or "nothing"
                raise BadArray(
                    f"{file} holds {held}, and no array {name!r}. Name one so, or give a .npy file."
                )
            array: np.ndarray = found[name if name in names else names[0]]
            return array
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, BadArray):
            raise
        if _is_numpy(file) and "object" in str(error).lower():  # numpy has several words for it
            raise BadArray(
                f"{file} holds Python objects, which are not loaded: they could run a program. Save numbers as "
                "array.astype(float), texts as array.astype(str)."
            ) from None
        raise BadArray(f"{file} is no .npy array. Write it with numpy.save.") from None


def _is_numpy(file: Path) -> bool:
    with file.open("rb") as start:
        return start.read(6).startswith((b"\x93NUMPY", b"PK"))


def _parquet(name: str, file: Path) -> np.ndarray:
    import numpy as np

    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise BadOption("reading Parquet needs pyarrow. Run: pip install 'vizsla[parquet]'.") from None
    try:
        table = parquet.read_table(file)
    except (pa.ArrowException, OSError):
        raise BadArray(f"{file} is no Parquet file that can be read.") from None
    columns: list[Any] = [column.combine_chunks() for column in table.columns]
    if any(column.null_count for column in columns):
        raise BadArray(f"{file} has rows without a value. Fill or drop them.")
    lists = [column for column in columns if pa.types.is_nested(column.type)]
    if len(lists) == 1:
        return _rows_of(lists[0], file)
    if len(columns) == 1:
        return np.asarray(columns[0].to_numpy(zero_copy_only=False))
    if lists or not all(_is_number(column.type) for column in columns):
        raise BadArray(
            f"{file} must have one column of lists, or columns of numbers only, for --{name}; it has "
            f"{', '.join(f'{field.name} ({field.type})' for field in table.schema)}. Leave the others out."
        )
    return np.stack([column.to_numpy(zero_copy_only=False) for column in columns], axis=1)


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _rows_of(lists: Any, file: Path) -> np.ndarray:
    """A column of lists of one length as a table."""
    import numpy as np
    import pyarrow as pa

    if not (
        pa.types.is_list(lists.type)
        or pa.types.is_large_list(lists.type)
        or pa.types.is_fixed_size_list(lists.type)
    ):
        raise BadArray(f"{file} has a column of {lists.type}. Give lists of numbers.")
    values = lists.flatten()
    if not _is_number(values.type) or values.null_count:
        raise BadArray(f"{file} has lists of {values.type}. Give lists of numbers, without gaps.")
    lengths = np.unique(lists.value_lengths().to_numpy(zero_copy_only=False)) if len(lists) else np.array([0])
    if len(lengths) > 1:
        raise BadArray(f"{file} has lists of {lengths[0]} to {lengths[-1]} numbers. All must be as long.")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(lists), -1)


def save(out: Path | str, file_names: list[str], found: Embeddings) -> None:
    """Feature rows and what they belong to: .npz and .parquet hold all of it, .npy has a .csv beside it.

    Columns: file_name, sha256 of the file, and embedding; the .csv counts its rows from 0 in a column of that name.
    Names that are no text are written as `vizsla.data.names` says; .npz holds them as Python has them.

    Args: out: path or URL, ends in .npy, .npz or .parquet. file_names: of each row.
    """
    if isinstance(out, str) and is_url(out):
        with TemporaryDirectory() as folder:
            save(Path(folder, PurePath(out).name), file_names, found)
            for made in sorted(Path(folder).iterdir()):  # the .csv before the .npy that it explains
                upload(made, f"{out.rpartition('/')[0]}/{made.name}")
        return None
    out = Path(out)
    if out.suffix == ".parquet":
        return _save_parquet(out, file_names, found)
    import numpy as np

    vectors = found.vectors
    if out.suffix == ".npz":
        with _draft(out) as draft, draft.open("wb") as file:
            np.savez(file, embeddings=vectors, file_names=np.array(file_names), sha256=np.array(found.sha256))
        return None
    with _draft(out) as draft, draft.open("wb") as file:
        kind = {"descr": vectors.dtype.str, "fortran_order": False, "shape": vectors.shape}
        np.lib.format.write_array_header_1_0(file, kind)
        for start in range(0, len(vectors), _AT_ONCE):
            file.write(vectors[start : start + _AT_ONCE].tobytes())
    rows = zip(itertools.count(), map(as_text, file_names), found.sha256, strict=False)
    with _draft(out.with_suffix(".csv")) as draft, draft.open("w", newline="", encoding="utf-8") as table:
        csv.writer(table).writerows(itertools.chain([("row", "file_name", "sha256")], rows))
    return None


def check_writable(out: Path | str) -> None:
    """See that `save` will be able to write there, before hours of work are done for it.

    Raises: BadOption for a folder, or where pyarrow is lacking; NotWritable; DiskFull.
    """
    if PurePath(out).suffix == ".parquet":
        _arrow()
    if isinstance(out, str) and is_url(out):
        return
    out = Path(out)
    for file in (out, *([out.with_suffix(".csv")] if out.suffix == ".npy" else [])):
        if file.is_dir():
            raise BadOption(f"{file} is a folder. Give --out the name of a file.")
    with _draft(out, keep=False) as draft:
        draft.write_bytes(b"")


@contextmanager
def _draft(out: Path, *, keep: bool = True) -> Iterator[Path]:
    """A file to write, which takes the place of `out` once it is whole, unless it was but a trial."""
    from vizsla.caching import draft_of, explain_write_errors

    draft = draft_of(out)
    with explain_write_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield draft
            if keep:
                draft.replace(out)
        finally:
            draft.unlink(missing_ok=True)


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise BadOption("writing Parquet needs pyarrow. Run: pip install 'vizsla[parquet]'.") from None
    return pa, parquet


def _save_parquet(out: Path, file_names: list[str], found: Embeddings) -> None:
    pa, parquet = _arrow()
    d = found.vectors.shape[1]
    schema = pa.schema(
        [("file_name", pa.string()), ("sha256", pa.string()), ("embedding", pa.list_(pa.float32(), d))]
    )
    with _draft(out) as draft, parquet.ParquetWriter(draft, schema) as writer:
        for start in range(0, len(file_names), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            lists = pa.array(found.vectors[part].astype("float32").ravel())
            columns = [
                pa.array(map(as_text, file_names[part]), pa.string()),
                pa.array(found.sha256[part], pa.string()),
                pa.FixedSizeListArray.from_arrays(lists, d),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
