"""The process that serves."""

import http.client
import json
import time
from uuid import uuid4

import pytest
from PIL import Image
from sqlalchemy import create_engine, text

from vizsla.store import Store
from vizsla.web.server import PORT, address_of, bind


def test_answers_on_an_open_connection_do_not_wait_for_the_network_stack(photos, serve):
    server = serve(photos, "--no-trainer")
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    times = []
    for _ in range(30):
        began = time.perf_counter()
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        times.append(time.perf_counter() - began)
    connection.close()
    assert (
        min(times) < 0.04
    )  # with Nagle's algorithm each waits for a delayed acknowledgement, which the kernel sends after 0.04


def test_two_projects_side_by_side_take_ports_of_their_own(photos, tmp_path):
    first, second = bind("127.0.0.1", None), bind("127.0.0.1", None)
    try:
        assert first.getsockname()[1] != second.getsockname()[1]
        assert address_of(first, "127.0.0.1").startswith("http://localhost:")
        assert first.getsockname()[1] >= PORT
    finally:
        first.close()
        second.close()


def test_the_first_image_of_a_huge_folder_does_not_wait_for_the_scan(tmp_path, serve, wait_until):
    images, count = tmp_path / "images", 50_000
    images.mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    content = (tmp_path / "image.png").read_bytes()
    for n in range(count):
        file = images / f"{n:06}.png"
        if n % 1000 == 0:  # of names for the same file some file systems allow 1,023
            (written := file).write_bytes(content)
        else:
            file.hardlink_to(written)
    server = serve(images, "--classes", "a,b", "--no-trainer")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    items: list = []

    def ask():
        connection.request("POST", "/api/queue", '{"n": 5}', {"Content-Type": "application/json"})
        items[:] = json.loads(connection.getresponse().read())["items"]
        return items

    wait_until(ask, 120)
    with Store.open(str(tmp_path / "project")) as store:
        assert store.counts().total < count
    connection.request("GET", items[0]["image_url"])
    assert connection.getresponse().read()[1:4] == b"PNG"
    connection.close()


@pytest.mark.parametrize("address", ["postgresql"], indirect=True)
def test_a_database_that_cuts_every_connection_stops_neither_labelling_nor_learning(
    address, photos, serve, wait_until
):
    server = serve(photos, "--classes", "blue,green,red", project=address)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"Content-Type": "application/json"}

    def call(method, path, body=None):
        connection.request(method, path, json.dumps(body), headers)
        reply = connection.getresponse()
        content = json.loads(reply.read())
        if cookie := reply.getheader("set-cookie"):
            headers["Cookie"] = cookie.partition(";")[0]
        return reply.status, content

    def label(count):
        for item in call("POST", "/api/queue", {"n": count})[1]["items"]:
            name = item["file_name"][4:-4]
            answer = {"item_id": item["item_id"], "label": name, "key": str(uuid4())}
            wait_until(lambda answer=answer: call("POST", "/api/labels", answer)[0] in (200, 201), 20)

    def model():
        status, found = call("GET", "/api/project")
        return status == 200 and found["model"] and found["model"]["version"]

    label(8)
    wait_until(model, 60)
    admin = create_engine(address.replace("://", "+psycopg://"), isolation_level="AUTOCOMMIT")
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    with admin.connect() as conn:
        conn.execute(text(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {others}"))
    admin.dispose()
    before = model()
    label(12)
    wait_until(lambda: (model() or 0) > (before or 1), 90)
    connection.close()
