"""What all tests share: a cache of their own, the real dogs, toy images, and no silent skips in CI."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads: idle threads must not spin

from collections.abc import Iterator
from pathlib import Path

import pytest

from vizsla.testing import toy_images

FINE_TO_SKIP = ("VIZSLA_DATA is not set", "root", "Windows", "POSIX", "Linux")
"""Reasons that are no missing component: in CI any other skip is a failure."""


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder for this run only, so that tests neither see nor fill the person's own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("VIZSLA_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def real_dogs() -> Path:
    """Ten dog breeds in the seed's layout, `train/` and `test/`."""
    if "VIZSLA_DATA" not in os.environ:
        pytest.skip("VIZSLA_DATA is not set: it names a folder with real images, dogs/{train,test}")
    folder = Path(os.environ["VIZSLA_DATA"]) / "dogs"
    assert folder.is_dir(), f"VIZSLA_DATA is set, but there is no {folder}"
    return folder


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """Three classes of twelve small one-colour images."""
    return toy_images(tmp_path / "toys")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not any(fine in reason for fine in FINE_TO_SKIP):
            report.outcome = "failed"
            report.longrepr = f"skipped in CI, where nothing may be missing: {reason}"
    return report
