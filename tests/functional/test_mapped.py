import mmap
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vizsla.functional import mapped
from vizsla.functional.geometry import principal_axes
from vizsla.functional.rows import as_rows, blocks, parts, sq_norms, take

ROWS, WIDTH = 20_000, 512  # 20 MB of float16
PAGE = mmap.PAGESIZE
PRESENT = np.uint64(63)  # the bit of a page's entry that says so


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("mapped") / "pool.npy"
    np.save(path, np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float16))
    return path


@pytest.fixture(autouse=True)
def small_hold(monkeypatch):
    monkeypatch.setattr(mapped, "_HELD_BYTES", 2 << 20)


def mapped_kilobytes(path):
    """What this process holds of the file in memory now: pages that are present.

    /proc/self/smaps would tell, but goes through all memory of the process to do so: 50 ms.
    """
    maps = Path("/proc/self/maps").read_text().splitlines()
    found = next((line for line in maps if line.endswith(str(path))), None)
    if found is None:
        return 0
    first, end = (int(address, 16) // PAGE for address in found.split()[0].split("-"))
    with Path("/proc/self/pagemap").open("rb") as pages:
        pages.seek(8 * first)
        entries = np.frombuffer(pages.read(8 * (end - first)), np.uint64)
    return np.count_nonzero(entries >> PRESENT) * PAGE // 1024


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
def test_a_pass_over_a_mapped_pool_never_holds_much_of_it(file):
    pool = np.load(file, mmap_mode="r")
    rows = as_rows(pool)
    everyone = np.arange(ROWS)
    for reads in (blocks(rows, 8192), parts(rows, everyone, 8192)):  # pieces of half a megabyte
        assert max(mapped_kilobytes(file) for _ in reads) < 8 << 10


@linux
def test_without_letting_go_the_whole_pool_would_be_held(file):
    pool = np.load(file, mmap_mode="r")
    pool.astype(np.float32).sum()
    assert mapped_kilobytes(file) > 18 << 10


@linux
def test_single_rows_here_and_there_hold_little_of_it(file):
    rows = as_rows(np.load(file, mmap_mode="r"))
    rng = np.random.default_rng(0)
    for _ in range(200):
        take(rows, rng.choice(ROWS, 10))
        assert mapped_kilobytes(file) < 8 << 10


@linux
def test_axes_and_directions_hold_little_too(file):
    pool = np.load(file, mmap_mode="r")
    axes = principal_axes(pool, 4)
    assert mapped_kilobytes(file) < 8 << 10
    axes.directions(pool)
    assert mapped_kilobytes(file) < 8 << 10


def test_what_is_read_of_a_map_is_what_is_read_of_a_copy(file):
    pool = np.load(file, mmap_mode="r")
    assert torch.equal(sq_norms(as_rows(pool)), sq_norms(as_rows(np.array(pool))))
    np.testing.assert_array_equal(
        principal_axes(pool, 3)(pool), principal_axes(np.array(pool), 3)(np.array(pool))
    )


def test_changes_that_were_made_to_a_private_map_stay(file):
    private = np.load(file, mmap_mode="c")
    private[:] = 1
    assert float(sq_norms(as_rows(private)).sum()) == ROWS * WIDTH
    assert (private == 1).all()


def test_changes_that_were_made_to_a_shared_map_stay(file, tmp_path):
    twin = tmp_path / "twin.npy"
    twin.write_bytes(file.read_bytes())
    shared = np.load(twin, mmap_mode="r+")
    shared[:] = 2
    sq_norms(as_rows(shared))
    assert (shared == 2).all()
