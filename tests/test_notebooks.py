"""The two shorter notebooks run, learn, and show what their text says. The seed's article is in test_examples.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests import notebooks

ROOT = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(ROOT.glob("*.ipynb"))


def execute(name: str, where: Path) -> tuple[str, int]:
    """What a notebook prints, and how many pictures it shows. A warning or a mistake in it is a failure here."""
    notebook = notebooks.executed(ROOT / name, where)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
    return printed, sum("image/png" in output.get("data", {}) for output in outputs)


def percentages(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"([\d.]+)%", line)]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_a_notebook_is_kept_small_and_without_outputs(notebook: Path):
    content = notebooks.read(notebook)
    code = [cell for cell in content.cells if cell.cell_type == "code"]
    assert code and not any(cell.outputs or cell.execution_count for cell in code)
    assert content.metadata.kernelspec.name == "python3"
    assert notebook.stat().st_size < 30_000


@pytest.mark.slow
def test_a_network_of_ones_own_learns_the_digits_and_the_last_query_is_shown(tmp_path: Path):
    printed, pictures = execute("your_own_model.ipynb", tmp_path)
    right = percentages("".join(re.findall(r"labels: [\d.]+%", printed)))
    assert len(right) == 4
    assert right[-1] > max(75, right[0] + 15)  # by chance 10
    means = {name: percentages(line)[0] for name, line in re.findall(r"(random|margin): (.+)", printed)}
    assert set(means) == {"random", "margin"} and min(means.values()) > 75
    assert pictures == 2


@pytest.mark.slow
def test_arrays_are_chosen_from_nothing_on_and_mistakes_are_explained(tmp_path: Path):
    printed, pictures = execute("arrays_from_anywhere.ipynb", tmp_path)
    typical, random = map(
        int, re.findall(r"classes among them: (\d+) of 10; among ten random rows: (\d+)", printed)[0]
    )
    assert typical > random
    curves = {
        name: [int(number) for number in numbers.split(", ")]
        for name, numbers in re.findall(r"(random|margin|auto): ([\d, ]+) % right", printed)
    }
    assert curves["margin"][0] == curves["random"][0] < curves["auto"][0]  # the same start, and a better one
    assert curves["margin"][-1] >= curves["random"][-1] > 80
    for mend in (
        "Did you mean 'margin'",
        "Pass softmax outputs",
        "Ask for 1257 or fewer",
        "needs embeddings",
    ):
        assert mend in printed
    assert pictures == 2
