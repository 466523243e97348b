"""Asking a Label Studio: the token goes to it and to nobody else."""

from __future__ import annotations

import json

import pytest

from vizsla.errors import Unreachable
from vizsla.interop import label_studio_host
from vizsla.interop.label_studio_host import Host


def test_the_token_goes_along_with_paths_and_with_whole_urls_of_the_host(websites):
    studio = websites()
    studio.pages["/data/a%20b.png?d=1"] = b"picture"
    host = Host(studio.address, "secret")
    assert host.get("/data/a b.png?d=1") == b"picture"
    assert host.get(f"{studio.address}/data/a%20b.png?d=1") == b"picture"
    assert [token for _, token in studio.asked] == ["Token secret"] * 2


def test_nothing_is_asked_of_another_host_not_even_where_a_redirect_leads_there(websites):
    studio, other = websites(), websites()
    other.pages["/b.png"] = b"not for you"
    studio.replies["/away"] = 302, {"Location": f"{other.address}/b.png"}
    studio.replies["/here"] = 302, {"Location": "/moved"}
    studio.pages["/moved"] = b"picture"
    host = Host(studio.address, "secret")
    assert host.get("/here") == b"picture"
    for uri in (
        f"{other.address}/b.png",
        "//evil.example.com/b.png",
        "file:///etc/passwd",
        "s3://bucket/b.png",
    ):
        with pytest.raises(Unreachable, match="does not lie on"):
            host.get(uri)
    with pytest.raises(Unreachable, match="it lies elsewhere"):
        host.get("/away")
    assert other.asked == []


def test_a_label_studio_below_a_path_is_asked_there(websites):
    studio = websites()
    studio.pages["/ls/data/a.png"] = b"picture"
    host = Host(f"{studio.address}/ls", "secret")
    assert host.get("/data/a.png") == host.get("/ls/data/a.png") == b"picture"


def test_what_is_too_large_refused_or_not_there_is_said_in_one_line(websites, monkeypatch):
    studio = websites()
    monkeypatch.setattr(label_studio_host, "MOST_BYTES", 1000)
    studio.pages["/large"] = b"x" * 1001
    studio.pages["/fits"] = b"x" * 1000
    studio.replies["/private"] = 401, {}
    host = Host(studio.address, "secret")
    assert len(host.get("/fits")) == 1000
    with pytest.raises(Unreachable, match="larger than"):
        host.get("/large")
    with pytest.raises(Unreachable, match=r"401 Unauthorized\. Allow legacy tokens"):
        host.get("/private")
    with pytest.raises(Unreachable, match="404"):
        host.get("/nowhere")
    with pytest.raises(Unreachable, match="refused"):
        Host("http://127.0.0.1:1", "secret").get("/data/a.png")
    for nobody in ("", "ftp://x", "http://[", "localhost:8080"):
        with pytest.raises(Unreachable):
            Host(nobody, "secret").get("/data/a.png")


def test_tasks_come_page_by_page_until_all_are_there(websites):
    studio = websites()
    for page, ids in ((1, [1, 2]), (2, [3])):
        where = f"/api/tasks?project=7&fields=all&page={page}&page_size=100"
        found = {"tasks": [{"id": n} for n in ids], "total": 3}
        studio.pages[where] = json.dumps(found).encode()
    assert list(Host(studio.address, "secret").tasks(7)) == [[{"id": 1}, {"id": 2}], [{"id": 3}]]
    with pytest.raises(Unreachable, match="404"):
        list(Host(studio.address, "secret").tasks(8))
    studio.pages["/api/tasks?project=9&fields=all&page=1&page_size=100"] = b"<html>"
    with pytest.raises(Unreachable, match="in no way that Label Studio does"):
        list(Host(studio.address, "secret").tasks(9))
