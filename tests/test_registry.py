from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vizsla.errors import UnknownName
from vizsla.registry import Registry


def shapes(plural: str = "shapes_of_no_package") -> Registry[int]:
    registry = Registry[int]("shape", plural)
    registry.register("square")(4)
    registry.register("circle")(0)
    return registry


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What pip leaves of a package that declares two shapes, one of them under our own name."""
    info = tmp_path / "hexes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hexes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[vizsla.test_shapes]\nhexagon = hexes_for_test:SIDES\n[vizsla.test_clash]\nsquare = hexes_for_test:SIDES\n"
    )
    (tmp_path / "hexes_for_test.py").write_text("SIDES = 6\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_names_lead_to_things_and_are_listed_in_order() -> None:
    registry = shapes()
    assert registry["square"] == 4
    assert dict(registry) == {"circle": 0, "square": 4}
    assert list(registry) == ["circle", "square"]
    assert ("circle" in registry, "oval" in registry, len(registry)) == (True, False, 2)


def test_the_decorator_hands_back_what_it_registers() -> None:
    assert shapes().register("oval")(7) == 7


def test_a_name_taken_twice_is_an_error_and_the_first_stays() -> None:
    registry = shapes()
    with pytest.raises(UnknownName, match="two shapes are named 'square'"):
        registry.register("square")(5)
    assert registry["square"] == 4


def test_a_missed_name_gets_the_nearest_and_all_known() -> None:
    with pytest.raises(
        UnknownName, match=r"^no shape named 'sqare'\. Did you mean 'square'\? Known: circle, square\.$"
    ):
        shapes()["sqare"]
    with pytest.raises(UnknownName, match=r"^no shape named 'x'\. Known: circle, square\.$"):
        shapes()["x"]


def test_an_installed_package_adds_its_entries(plug_in: Path) -> None:
    assert shapes("test_shapes")["hexagon"] == 6
    assert list(shapes("test_shapes")) == ["circle", "hexagon", "square"]
    assert len(shapes("test_shapes")) == 3
    assert "hexagon" in shapes("test_shapes")


def test_a_package_is_not_imported_before_a_name_is_asked_for(plug_in: Path) -> None:
    sys.modules.pop("hexes_for_test", None)
    registry = shapes("test_shapes")
    assert "hexes_for_test" not in sys.modules
    assert registry["hexagon"] == 6
    assert "hexes_for_test" in sys.modules


def test_a_package_cannot_take_a_name_of_ours(plug_in: Path) -> None:
    with pytest.raises(UnknownName, match="two shapes are named 'square'"):
        shapes("test_clash")["circle"]
