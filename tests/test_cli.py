"""The command line as a person meets it: exit codes, one line per mistake; of each kind one real process."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from vizsla.cli.arrays import load
from vizsla.data.indexed import IndexedDataset
from vizsla.data.samples import DEMO
from vizsla.errors import BadArray
from vizsla.models.backbones import load_backbone
from vizsla.models.embed import Engine, embed
from vizsla.testing import TOY_BACKBONE, toy_images

TOY = ["--backbone", TOY_BACKBONE, "--seeds", "2", "--initial", "4", "--batch", "4", "--budget", "12"]


def test_compare_prints_a_table_and_writes_the_four_files(toys, tmp_path, vizsla):
    done = vizsla("compare", toys, "--strategies", "margin", "--out", tmp_path / "out", *TOY)
    assert done.returncode == 0, done.stderr
    assert "labels saved" in done.stdout
    assert "margin" in done.stdout
    for name in ("report.html", "curves.png", "summary.csv", "curves.json"):
        assert str(tmp_path / "out" / name) in done.stdout.replace("\n", "")
        assert (tmp_path / "out" / name).stat().st_size > 100


def test_select_prints_the_rows_that_the_function_chooses(tmp_path, vizsla, vizsla_here):
    from vizsla import select

    probs = np.random.default_rng(0).dirichlet(np.ones(3), 50)
    np.save(tmp_path / "p.npy", probs)
    np.save(tmp_path / "l.npy", np.array([0, 1, 2]))
    want = select("margin", probs=probs, labelled=[0, 1, 2], n=5).tolist()
    command = [
        "select",
        "--strategy",
        "margin",
        "--probs",
        tmp_path / "p.npy",
        "--labelled",
        tmp_path / "l.npy",
    ]
    assert vizsla(*command, "-n", 5).stdout.split() == list(map(str, want))
    assert json.loads(vizsla_here(*command, "-n", 5, "--json").stdout) == want


def test_select_reads_npz_and_parquet_as_it_reads_npy(tmp_path, vizsla_here):
    rng = np.random.default_rng(0)
    rows, probs = rng.normal(size=(40, 3)).astype(np.float32), rng.dirichlet(np.ones(3), 40)
    np.save(tmp_path / "h.npy", rows)
    np.save(tmp_path / "p.npy", probs)
    np.savez(tmp_path / "both.npz", embeddings=rows, probs=probs)
    parquet.write_table(pa.table({"h": list(rows)}), tmp_path / "lists.parquet")
    parquet.write_table(pa.table({f"p{c}": probs[:, c] for c in range(3)}), tmp_path / "columns.parquet")
    np.save(tmp_path / "l.npy", np.array([3, 4]))
    parquet.write_table(pa.table({"row": [3, 4]}), tmp_path / "l.parquet")
    asked = ["select", "--strategy", "badge", "-n", 5]
    want, *same = (
        vizsla_here(
            *asked, "--embeddings", tmp_path / h, "--probs", tmp_path / p, "--labelled", tmp_path / known
        ).stdout
        for h, p, known in (
            ("h.npy", "p.npy", "l.npy"),
            ("both.npz", "both.npz", "l.npy"),
            ("lists.parquet", "columns.parquet", "l.parquet"),
        )
    )
    assert len(want.split()) == 5
    assert same == [want, want]


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (
            lambda file: np.savez(file.with_suffix(".npz"), a=np.ones(2), b=np.ones(2)),
            "holds a, b, and no array 'probs'",
        ),
        (
            lambda file: parquet.write_table(pa.table({"x": ["a"], "y": [1.0]}), file),
            "x (string), y (double)",
        ),
        (
            lambda file: parquet.write_table(pa.table({"x": [[1.0], [1.0, 2.0]]}), file),
            "lists of 1 to 2 numbers",
        ),
        (lambda file: parquet.write_table(pa.table({"x": [[1.0], None]}), file), "rows without a value"),
        (lambda file: file.write_bytes(b"no"), "no Parquet file"),
    ],
)
def test_arrays_that_cannot_be_read_are_named_with_what_they_hold(tmp_path, write, says):
    write(tmp_path / "p.parquet")
    [file] = tmp_path.iterdir()
    with pytest.raises(BadArray) as refused:
        load("probs", file)
    assert says in str(refused.value)


MISTAKES = {
    "a missing folder": (["compare", "nowhere"], "nowhere"),
    "an empty folder": (["compare", "empty"], "no image"),
    "one class": (["compare", "one"], "one class"),
    "a flat folder": (["compare", "toys/red"], "no class folder"),
    "a budget over the pool": (["compare", "toys", *TOY, "--budget", "99"], "Use --budget 25 or less"),
    "an unknown strategy": (["compare", "toys", *TOY, "--strategies", "margn"], "Did you mean 'margin'?"),
    "an unknown backbone": (["compare", "toys", *TOY, "--backbone", "efficientnet_lite"], "Did you mean"),
    "a backbone file that is not there": (
        ["compare", "toys", *TOY, "--backbone", "module:x.py:f"],
        "no file 'x.py'",
    ),
    "a test set of other classes": (["compare", "toys", *TOY, "--test", "other"], "black"),
    "unreadable weights": (
        ["compare", "toys", *TOY, "--backbone", "torchvision:resnet18"],
        "cannot read the weights",
    ),
    "a head nobody knows": (["compare", "toys", *TOY, "--head", "forest"], "no head named 'forest'"),
    "a stop rule nobody knows": (
        ["compare", "toys", *TOY, "--stop-training", "never"],
        "no training stop rule",
    ),
    "no classes to label with": (["label", "toys/red", "--terminal"], "--classes cat,dog"),
    "labelling nothing": (["label", "nowhere", "--classes", "a,b"], "nowhere"),
    "arrays that are none": (
        ["select", "--strategy", "margin", "--probs", "junk.npy", "-n", "1"],
        "no .npy array",
    ),
    "arrays that are not there": (
        ["select", "--strategy", "margin", "--probs", "no.npy", "-n", "1"],
        "no file no.npy",
    ),
    "an option nobody knows": (["compare", "toys", "--labels-please"], "No such option"),
    "a number that is none": (["compare", "toys", "--budget", "many"], "is not a valid integer"),
}


@pytest.fixture(scope="module")
def corner(tmp_path_factory) -> Path:
    """A folder with something wrong for everyone."""
    folder = tmp_path_factory.mktemp("corner")
    toy_images(folder / "toys")
    toy_images(folder / "one", classes=("cat",))
    toy_images(folder / "other", classes=("blue", "black"))
    (folder / "empty").mkdir()
    (folder / "junk.npy").write_text("junk")
    weights = folder / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"no weights at all")
    return folder


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_its_mend_and_exit_code_2(corner, mistake, monkeypatch, vizsla_here):
    arguments, said = MISTAKES[mistake]
    monkeypatch.chdir(corner)
    monkeypatch.setenv("TORCH_HOME", str(corner / "torch"))
    done = vizsla_here(*arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("vizsla: ")
    assert done.stderr.count("\n") == 1, done.stderr


def test_a_mistake_ends_a_real_process_without_a_traceback(corner, vizsla):
    done = vizsla("compare", "nowhere", cwd=corner)
    assert done.returncode == 2
    assert done.stderr.startswith("vizsla: ")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 200 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root on Linux may mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_while_caching_is_one_line_with_its_mend_and_room_lets_it_go_on(
    tmp_path, small_disk, vizsla, vizsla_here, monkeypatch
):
    photos = toy_images(tmp_path / "many", per_class=800, side=4)
    monkeypatch.setenv("VIZSLA_CACHE", str(small_disk))
    done = vizsla("compare", photos, *TOY, "--out", tmp_path / "out")
    assert done.returncode == 2, done.stderr
    complaint = done.stderr.splitlines()[-1]
    assert "no space left" in complaint
    assert "VIZSLA_CACHE" in complaint
    assert "Traceback" not in done.stderr
    subprocess.run(["mount", "-o", "remount,size=2m", str(small_disk)], check=True)
    again = vizsla_here("compare", photos, *TOY, "--out", tmp_path / "out")
    assert again.returncode == 0, again.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send to another process")
@pytest.mark.parametrize("ending", ["npy", "npz", "parquet"])
def test_embed_writes_features_that_select_reads_back_and_names_each_row(
    toys, tmp_path, ending, vizsla_here, caplog
):
    (toys / "red" / "broken.jpg").write_bytes(b"no image")
    out = tmp_path / f"features.{ending}"
    done = vizsla_here("embed", toys, "--backbone", TOY_BACKBONE, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "36 images" in done.stdout
    assert "left out red/broken.jpg" in caplog.text
    network = load_backbone(TOY_BACKBONE)
    expected = embed(IndexedDataset(toys, check=False), network)
    np.testing.assert_array_equal(load("embeddings", out), expected.vectors)
    match ending:
        case "npy":
            found = [line.split(",")[1:] for line in out.with_suffix(".csv").read_text().splitlines()[1:]]
        case "npz":
            found = np.stack([np.load(out)["file_names"], np.load(out)["sha256"]], axis=1).tolist()
        case "parquet":
            found = [[row["file_name"], row["sha256"]] for row in parquet.read_table(out).to_pylist()]
    whole = sorted(toys.rglob("*.png"), key=lambda path: path.relative_to(toys).as_posix())
    assert found == [
        [path.relative_to(toys).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()] for path in whole
    ]
    chosen = vizsla_here("select", "--strategy", "kmeans", "--embeddings", out, "-n", 3)
    assert len(set(chosen.stdout.split())) == 3, chosen.stderr


def test_embed_computes_only_what_the_cache_lacks(toys, tmp_path, vizsla_here, monkeypatch):
    monkeypatch.setenv("VIZSLA_CACHE", str(tmp_path / "cache"))
    first = vizsla_here("embed", toys, "--backbone", TOY_BACKBONE)
    computed = []
    compute = Engine._features
    monkeypatch.setattr(
        Engine, "_features", lambda self, batch: computed.append(len(batch[0])) or compute(self, batch)
    )
    Image.new("RGB", (40, 40), (1, 2, 3)).save(toys / "red" / "new.png")
    second = vizsla_here("embed", toys, "--backbone", TOY_BACKBONE)
    assert "36 images" in first.stdout
    assert "37 images" in second.stdout
    assert computed == [1]


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(toys, tmp_path):
    command = [
        sys.executable,
        "-m",
        "vizsla",
        "compare",
        str(toys),
        *TOY,
        "--out",
        str(tmp_path),
        "--seeds",
        "500",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "runs").glob("random-?.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from there" in said
    assert "Traceback" not in said
    assert list((tmp_path / "runs").glob("random-?.json"))


def test_vizsla_alone_shows_the_help(vizsla):
    done = vizsla()
    assert done.stderr.startswith("Usage: ")
    assert "Label your images:" in done.stderr


def test_help_names_every_command_and_loads_no_torch(vizsla):
    done = vizsla("--help")
    assert all(name in done.stdout for name in ("compare", "demo", "label", "select"))
    check = "import sys, vizsla, vizsla.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


def fewer_labels(done):
    said = " ".join(done.stdout.split())
    return "fewer labels than random" in said or "reached only" in said or "more labels than random" in said


def test_a_demo_of_few_seeds_ends_with_a_sentence_about_labels_saved(tmp_path, vizsla_here, monkeypatch):
    monkeypatch.setattr("vizsla.data.samples.DEMO", DEMO | {"seeds": 2, "budget": 60, "random_budget": 60})
    done = vizsla_here("demo", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert fewer_labels(done)


@pytest.mark.full
def test_the_demo_ends_with_a_sentence_about_labels_saved(tmp_path, vizsla):
    done = vizsla("demo", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert fewer_labels(done)
