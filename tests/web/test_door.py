"""Who may come in."""

import time

import pytest

from vizsla.web.door import Door

TEAM = Door(host="0.0.0.0", allowed=frozenset({"labels.example.org"}), cookie="vizsla-test")


def test_nothing_external_may_be_loaded_and_nothing_is_left_without_the_policy(client):
    for path in ("/", "/api/project", "/healthz", "/nowhere"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "http" not in policy


@pytest.mark.parametrize("host", ["evil.example.com", "localhost.evil.com", "", "127.0.0.1.evil.com:8050"])
def test_a_host_that_is_not_ours_gets_nothing(client, host):
    reply = client.get("/api/project", headers={"Host": host})
    assert reply.status_code == 421
    assert "counts" not in reply.text


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8050", "[::1]:8050", "LOCALHOST:99"])
def test_loopback_goes_by_all_its_names(client, host):
    assert client.get("/api/project", headers={"Host": host}).status_code == 200


def test_another_site_cannot_write(client, project):
    reply = client.post("/api/classes", json={"name": "x"}, headers={"Origin": "https://evil.example.com"})
    assert reply.status_code == 403
    own = client.post("/api/classes", json={"name": "x"}, headers={"Origin": "http://localhost:8050"})
    assert own.status_code == 201
    plain = client.post("/api/queue", content='{"n": 1}', headers={"Content-Type": "text/plain"})
    assert plain.status_code == 422  # what a form of another site could send


def test_off_loopback_every_call_needs_a_token_and_a_wrong_one_is_told_so(client_of, project):
    client = client_of(TEAM, "labels.example.org")
    for path in (
        "/api/project",
        "/api/labels",
        "/api/images/1",
        "/api/export/csv",
        "/api/grid",
        "/api/events",
    ):
        assert client.get(path).status_code == 401, path
    for path in ("/api/queue", "/api/labels", "/api/undo", "/api/rescan", "/api/train"):
        assert client.post(path, json={"n": 1}).status_code == 401, path
    _, token = project.store.new_token("ada")
    assert client.get("/api/project", headers={"Authorization": f"Bearer {token}x"}).status_code == 401
    good = client.get("/api/project", headers={"Authorization": f"Bearer {token}"})
    assert good.json()["annotator"] == "ada"
    project.store.revoke_token("ada")
    time.sleep(1.1)  # a door knows whom it let in for a second
    assert client.get("/api/project", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert client.get("/healthz").json()["status"] == "ok"
    assert [one.name for one in project.store.annotators()] == ["ada"]


def test_a_token_in_the_address_becomes_a_cookie_once(client_of, project):
    client = client_of(TEAM, "labels.example.org")
    _, token = project.store.new_token("ada")
    reply = client.get(f"/?token={token}", follow_redirects=False)
    assert (reply.status_code, reply.headers["location"]) == (303, "/")
    cookie = reply.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert client.get("/api/project").json()["annotator"] == "ada"


def test_a_wrong_token_on_loopback_is_no_newcomer(client):
    assert client.get("/api/project", headers={"Authorization": "Bearer nonsense"}).status_code == 401


def test_a_server_that_only_shows_takes_nothing(client_of, project):
    client = client_of(Door(read_only=True))
    assert client.get("/api/project").json()["read_only"] is True
    for path in ("/api/queue", "/api/labels", "/api/classes", "/api/undo"):
        assert client.post(path, json={}).status_code == 403
    assert project.store.annotators() == ()


def test_another_port_of_this_machine_is_another_site(client):
    for origin in ("http://localhost:3000", "http://localhost", "null"):
        assert client.post("/api/undo", headers={"Origin": origin}).status_code == 403, origin


def test_the_cookies_of_other_ports_do_not_hide_ours(client, answer):
    for odd in ('prefs={"theme":"dark"}', "a,b=1", "wp_s[x]=1", "bare"):
        client.cookies.clear()
        given = client.get("/api/project").headers["set-cookie"].partition(";")[0]
        client.cookies.clear()
        seen = set()
        for _ in range(3):
            reply = client.post("/api/queue", json={"n": 1}, headers={"Cookie": f"{odd}; {given}"})
            seen.add(reply.json()["items"][0]["item_id"])
        assert len(seen) == 1, odd


def test_a_link_with_a_wrong_token_logs_nobody_out(client_of, project):
    client = client_of(TEAM, "labels.example.org")
    _, token = project.store.new_token("ada")
    client.get(f"/?token={token}")
    reply = client.get(f"/?token={'x' * 40}", follow_redirects=False)
    assert "set-cookie" not in reply.headers
    assert client.get("/api/project").json()["annotator"] == "ada"


def test_a_huge_body_is_refused_unread(client):
    reply = client.post(
        "/api/queue", content=b"0" * (9 * 2**20), headers={"Content-Type": "application/json"}
    )
    assert reply.status_code == 413
