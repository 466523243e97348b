"""The examples and the notebook run from start to end, without a warning, and say what they should."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests import notebooks

from vizsla import IndexedDataset

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOK = ROOT / "notebooks" / "active_learning.ipynb"


def run(example: str, where: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / example)],
        cwd=where,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def percentages(output: str, start: str = "") -> list[float]:
    """The first percentage of each line that begins so."""
    lines = [line.strip() for line in output.splitlines()]
    return [float(re.findall(r"([\d.]+)%", line)[0]) for line in lines if line.startswith(start)]


def test_every_example_is_tested_here_and_has_fewer_than_60_lines():
    tested = {"article.py", "lightning_loop.py", "own_model.py", "select_arrays.py", "skorch_loop.py"}
    assert {example.name for example in EXAMPLES} == tested
    assert max(len(example.read_text("utf-8").splitlines()) for example in EXAMPLES) < 60


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "at_least"),
    [("article.py", 50), ("lightning_loop.py", 80), ("own_model.py", 85), ("skorch_loop.py", 80)],
)
def test_an_example_with_a_network_learns_the_digits(example: str, at_least: float, tmp_path: Path):
    right = percentages(run(example, tmp_path))
    assert len(right) >= 5
    assert right[-1] > max(at_least, right[0] + 20)  # by chance 10
    assert not list(tmp_path.iterdir())  # an example leaves nothing behind


@pytest.mark.slow
def test_the_example_on_arrays_shows_margin_ahead_of_random_from_the_same_start(tmp_path: Path):
    output = run("select_arrays.py", tmp_path)
    random, margin = percentages(output, "random"), percentages(output, "margin")
    assert len(random) == len(margin) == 8
    assert random[0] == margin[0]
    assert margin[-1] > random[-1] > 80


# --- the notebook


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """As a stranger runs it, on the digits: the loops on the dogs take twice as long."""
    where = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("VIZSLA_DATA", raising=False)
        return notebooks.executed(NOTEBOOK, where)


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def printed(notebook: Any, stream: str) -> str:
    return "".join(output.text for output in outputs(notebook) if output.get("name") == stream)


def test_the_notebook_is_kept_small_without_outputs_for_the_kernel_python3():
    notebook = notebooks.read(NOTEBOOK)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert notebook.metadata.kernelspec.name == "python3"
    assert NOTEBOOK.stat().st_size < 30_000


def test_the_notebook_takes_the_real_dogs_where_they_are(real_dogs: Path):
    cells = notebooks.read(NOTEBOOK).cells
    (source,) = [cell.source for cell in cells if "VIZSLA_DATA" in cell.source and cell.cell_type == "code"]
    names: dict[str, Any] = {"os": os, "Path": Path, "IndexedDataset": IndexedDataset}
    exec(source, names)
    for part in ("train", "test"):
        taken = names[f"{part}_set"]
        files = (real_dogs / part).glob("*/*")
        assert sorted(map(taken.file_name, range(len(taken)))) == sorted(
            file.relative_to(real_dogs / part).as_posix() for file in files
        )
    assert len(names["train_set"].classes) == 10
    assert names["image_size"] == 128


@pytest.mark.slow
def test_the_notebook_runs_and_shows_images_embeddings_and_curves(executed: Any):
    figures = [output for output in outputs(executed) if "image/png" in output.get("data", {})]
    assert len(figures) == 5  # two grids of images, the embeddings, one curve, the comparison
    assert printed(executed, "stderr") == ""


@pytest.mark.slow
def test_the_notebook_s_loops_learn_and_its_comparison_is_not_called_sure(executed: Any):
    text = printed(executed, "stdout")
    loop = [float(percent) for percent in re.findall(r"([\d.]+)% of the test images right", text)]
    own = [float(percent) for percent in re.findall(r"([\d.]+)% right", text)]
    assert len(loop) == 10
    assert loop[-1] > max(80, loop[0] + 20)
    assert len(own) == 4
    assert own[-1] > 40  # by chance 10
    assert "(3 seeds: too few to be sure)" in text
    assert "before: 0 [1 1 1 1 1]\nafter:  0 [0 1 1 1 1]" in text


@pytest.mark.slow
def test_the_notebook_s_interactive_cell_asks_where_it_is_switched_on_and_only_there(
    executed: Any,
):
    (cell,) = [
        cell for cell in executed.cells if "interactive=True" in cell.source and cell.cell_type == "code"
    ]
    assert cell.source.startswith("ASK_ME = False\n")
    assert cell.outputs[0].text == "not asked: ASK_ME is False\n"
