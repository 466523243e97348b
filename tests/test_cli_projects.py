"""Commands on a project; servers, workers and the first of each kind as real processes."""

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests import preloaded

from vizsla.interop import formats
from vizsla.project import Project
from vizsla.store import Answer
from vizsla.testing import TOY_BACKBONE


@pytest.fixture
def project(tmp_path, photos):
    """Half of sixty photos labelled, by the name of the file."""
    with Project.open(tmp_path / "project", photos) as opened:
        opened.change(backbone=TOY_BACKBONE)
        opened.add_classes(["blue", "green", "red"])
        opened.scan()
        me = opened.store.annotator("me").id
        for item in opened.store.claim(me, 30):
            opened.store.label(me, Answer(item.image_id, item.path[4:-4], lease_id=item.lease_id))
    return tmp_path / "project"


def test_a_mistaken_label_is_the_first_that_query_would_ask_again(project, vizsla_here):
    with Project.open(project) as opened:
        right = opened.store.labels()[0]
        wrong = next(one.name for one in opened.store.classes() if one.name != right.label)
        opened.store.label(opened.store.annotator("me").id, Answer(right.image_id, wrong))
    assert vizsla_here("query", "--project", project, "--relabel").stdout == ""
    assert vizsla_here("train", "--project", project).returncode == 0
    first = vizsla_here("query", "--project", project, "--relabel", "-n", "1").stdout
    assert first == f"{right.path}\tasked again: what do you see?\n"


def test_train_status_query_and_predict_work_on_the_same_project(
    project, photos, tmp_path, vizsla, vizsla_here
):
    trained = vizsla("train", "--project", project)
    assert trained.stdout == "model 1, from 30 labels\n", trained.stderr
    again = vizsla_here("train", "--project", project)
    assert again.stdout == "model 1, from 30 labels\n"  # nothing was new
    status = vizsla_here("status", "--project", project).stdout
    for said in ("60", "30", "model", "1, from 30 labels", "from 30 random checks", "blue"):
        assert said in status, status
    lines = vizsla_here("query", "--project", project, "-n", "5").stdout.splitlines()
    queried = [line.split("\t") for line in lines]
    assert len(queried) == 5
    with Project.open(project) as opened:
        unanswered = {image.path for image in opened.store.images() if image.status == "unlabelled"}
    assert {name for name, _ in queried} <= unanswered
    exported = vizsla_here("export", "model", "--project", project, "--out", tmp_path / "m.safetensors")
    assert exported.returncode == 0, exported.stderr
    from_file = vizsla_here("predict", tmp_path / "m.safetensors", photos)
    from_project = vizsla_here("predict", project, photos, "--out", tmp_path / "p.csv")
    assert from_project.returncode == 0, from_project.stderr
    assert (tmp_path / "p.csv").read_text() == from_file.stdout
    rows = list(csv.DictReader(io.StringIO(from_file.stdout)))
    assert len(rows) == 60
    assert sum(row["label"] == row["file_name"][4:-4] for row in rows) >= 57
    assert all(
        abs(sum(float(row[f"prob_{name}"]) for name in ("blue", "green", "red")) - 1) < 1e-5 for row in rows
    )


@pytest.mark.parametrize("format", sorted(formats))
def test_what_is_exported_is_imported_into_a_fresh_project_as_it_was(
    project, photos, tmp_path, format, vizsla, vizsla_here
):
    out = tmp_path / f"labels.{format}"
    done = vizsla_here("export", format, "--project", project, "--out", out)
    assert done.returncode == 0, done.stderr
    fresh, run = tmp_path / "fresh", vizsla if format == "csv" else vizsla_here
    done = run("import", format, out, "--project", fresh, "--images", photos)
    assert done.returncode == 0, done.stderr
    assert "30 labels imported" in done.stdout
    known = []
    for home in (project, fresh):
        with Project.open(home) as opened:
            known.append({label.path: label.label for label in opened.store.labels()})
    assert known[0] == known[1]
    assert len(known[0]) == 30


def test_a_token_lets_someone_in_from_elsewhere_until_it_is_revoked(
    project, photos, serve, vizsla, vizsla_here
):
    server = serve(photos, "--host", "0.0.0.0", "--no-trainer", project=project, command="serve")
    token = vizsla("users", "add", "ada", "--project", project).stdout.strip()
    assert "ada" in vizsla_here("users", "list", "--project", project).stdout

    def ask(token):
        request = urllib.request.Request(
            f"{server.url}api/project", headers={"Authorization": f"Bearer {token}"}
        )
        return json.load(urllib.request.urlopen(request, timeout=30))

    assert ask(token)["annotator"] == "ada"
    assert vizsla_here("users", "revoke", "ada", "--project", project).returncode == 0
    time.sleep(1.1)  # a door knows whom it let in for a second
    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask(token)
    assert vizsla_here("users", "revoke", "bob", "--project", project).returncode == 2


def test_a_worker_trains_for_a_server_that_does_not(project, photos, serve, wait_until, vizsla_here):
    serve(photos, "--no-trainer", project=project)
    command = [sys.executable, "-m", "vizsla", "worker", "--project", str(project)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as worker, Project.open(project) as opened:
        try:
            wait_until(lambda: opened.store.model() is not None, 60)
            second = vizsla_here("train", "--project", project)  # asks the one that is at work
            assert "model 1, from 30 labels" in second.stdout
        finally:
            worker.kill()


def test_ctrl_c_ends_a_server_at_once_and_its_trainer_with_it(photos, serve):
    server = serve(photos, "--classes", "a,b")
    children = preloaded.children_of(server.process.pid)
    assert children
    assert server.stop() in (0, 130)
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_ctrl_c_with_pages_open_is_one_line_and_waits_for_none_of_them(photos, serve):
    server = serve(photos, "--classes", "a,b", "--no-trainer", command="serve")
    pages = [urllib.request.urlopen(server.url + "api/events", timeout=30) for _ in range(3)]
    assert all(page.readline() == b": hello\n" for page in pages)
    assert server.stop() in (0, 130)
    assert server.said[-1].startswith("vizsla: interrupted.") and len(server.said) <= 4, server.said
    assert all(b"retry: 1000" in page.read() for page in pages)  # which ended, and did not break off


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="POSIX process groups")
def test_ctrl_c_in_a_terminal_reaches_the_trainer_too_and_says_one_line(photos, tmp_path):
    command = [
        sys.executable,
        "-m",
        "vizsla",
        "label",
        str(photos),
        "--project",
        str(tmp_path / "p"),
        "--port",
        "0",
    ]
    process = subprocess.Popen(
        [*command, "--no-browser", "--backbone", TOY_BACKBONE],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ
        | {"PYTHONUNBUFFERED": "1"}
        | preloaded.FRESH,  # how Python itself ends is what is asked
    )
    for line in process.stdout:
        if "http://" in line:
            break
    time.sleep(4)  # the trainer has begun
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert "Fatal" not in said
    assert said.strip().count("\n") == 0, said


@pytest.mark.slow
def test_label_without_a_folder_opens_the_samples(tmp_path):
    cache = {"VIZSLA_CACHE": str(tmp_path / "cache"), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "vizsla", "label", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | cache) as process:
        try:
            lines = [process.stdout.readline() for _ in range(3)]
            url = next(word for line in lines for word in line.split() if word.startswith("http://"))
            project = json.load(urllib.request.urlopen(f"{url}api/project", timeout=30))
            assert [one["name"] for one in project["classes"]] == list("1234567890")  # as the keys lie
        finally:
            process.kill()


MISTAKES = {
    "a port in use": (["label", "{photos}", "--port", "{taken}"], "Choose another --port"),
    "a port that is none": (["label", "{photos}", "--port", "99999"], "65535"),
    "a host that is not ours": (["serve", "{photos}", "--host", "192.0.2.1"], "cannot listen on"),
    "a folder that is not there": (["label", "{photos}/nowhere"], "nowhere"),
    "a strategy nobody knows": (["label", "{photos}", "--strategy", "margn"], "Did you mean 'margin'?"),
    "a share that makes no sense": (["label", "{photos}", "--audit", "7"], "0 to 1"),
    "no classes for a terminal": (["label", "{photos}", "--terminal"], "--classes cat,dog"),
    "no project": (["status", "--project", "{photos}/nope"], "there is no project in"),
    "no project here": (["train"], "--project P"),
    "nothing to learn from": (["train", "--project", "{empty}"], "two classes"),
    "no model to export": (["export", "model", "--project", "{empty}", "--out", "m"], "no model yet"),
    "a format nobody knows": (["export", "cvs", "--project", "{empty}", "--out", "m"], "csv"),
    "a file that is no model": (
        ["predict", "{photos}/000-blue.png", "{photos}"],
        "no model that Vizsla wrote",
    ),
    "labels that are not there": (["import", "csv", "none.csv", "--project", "{empty}"], "none.csv"),
    "a database that cannot be reached": (
        ["status", "--project", "postgresql://nobody@127.0.0.1:1/nothing"],
        "cannot reach",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_its_mend(mistake, photos, tmp_path, monkeypatch, vizsla, vizsla_here):
    arguments, said = MISTAKES[mistake]
    run = (
        vizsla if arguments[0] in ("label", "serve") else vizsla_here
    )  # serving after all, it would not end here
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        if any("{empty}" in argument for argument in arguments):
            with Project.open(tmp_path / "empty", photos) as opened:
                opened.change(backbone=TOY_BACKBONE)
        names = {"photos": photos, "taken": taken.getsockname()[1], "empty": tmp_path / "empty"}
        monkeypatch.chdir(tmp_path)
        done = run(*[argument.format(**names) for argument in arguments])
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert done.stderr.startswith("vizsla: ")
    assert done.stderr.count("\n") == 1, done.stderr
