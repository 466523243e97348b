"""`deploy/`: by the schemas of Compose and Kubernetes, and by our own command line. No engine is needed for that."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from vizsla.cli import cli
from vizsla.store import Store

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose.yaml"
KUBERNETES = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
RELEASES = ("1.29", "1.33")
KNOWN = {"VIZSLA_PROJECT", "VIZSLA_CACHE", "VIZSLA_LOG_FORMAT"}
"""Our environment variables; a test below sees that the program reads them."""


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def resources() -> list[dict[str, Any]]:
    return [one for file in KUBERNETES for one in yaml.safe_load_all(file.read_text())]


def pods() -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    """Name, pod and labels of whatever runs."""
    for one in resources():
        if one["kind"] in ("Deployment", "StatefulSet"):
            template = one["spec"]["template"]
            assert template["metadata"]["labels"].items() >= one["spec"]["selector"]["matchLabels"].items()
            yield one["metadata"]["name"], template["spec"], template["metadata"]["labels"]


def commands() -> dict[str, list[str]]:
    """What our containers run."""
    found = {name: one["command"] for name, one in services().items() if one["image"] == "vizsla"}
    for name, pod, _ in pods():
        for one in pod["containers"]:
            if one["image"] == "vizsla":
                found[name] = one["args"]
    return found


def environments() -> dict[str, dict[str, str]]:
    found = {name: one["environment"] for name, one in services().items()}
    for name, pod, _ in pods():
        found[name] = {var["name"]: var.get("value", "") for one in pod["containers"] for var in one["env"]}
    return found


@pytest.mark.slow
def test_compose_holds_to_the_compose_specification() -> None:
    check = ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(
        [str(Path(sys.executable).with_name(check[0])), *check[1:]], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("release", RELEASES)
def test_every_resource_holds_to_the_schema_of_kubernetes(release: str) -> None:
    import kubernetes_validate

    assert len(resources()) == 9
    for one in resources():
        kubernetes_validate.validate(one, release, strict=True)


def test_what_a_pod_names_is_there() -> None:
    held: dict[str, set[str]] = {}
    for one in resources():
        held.setdefault(one["kind"], set()).add(one["metadata"]["name"])
    for _, pod, _ in pods():
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        for volume in volumes.values():
            assert volume["persistentVolumeClaim"]["claimName"] in held["PersistentVolumeClaim"]
        for container in pod["containers"]:
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == set(volumes) or mounted == {"data"}  # which a StatefulSet claims itself
            for variable in container["env"]:
                if reference := variable.get("valueFrom"):
                    assert reference["secretKeyRef"]["name"] in held["Secret"]


def test_services_and_budgets_select_pods_that_have_their_ports() -> None:
    running = list(pods())
    for one in resources():
        if one["kind"] not in ("Service", "PodDisruptionBudget"):
            continue
        spec = one["spec"]
        wanted = spec["selector"].get("matchLabels", spec["selector"])
        [pod] = [pod for _, pod, labels in running if labels.items() >= wanted.items()]
        ports = {port["name"] for container in pod["containers"] for port in container["ports"]}
        assert {port.get("targetPort", port["name"]) for port in spec.get("ports", [])} <= ports
    for _, pod, _ in running:
        for container in pod["containers"]:
            ports = {port["name"] for port in container.get("ports", [])}
            probes = [
                probe["httpGet"]
                for name, probe in container.items()
                if "Probe" in name and "httpGet" in probe
            ]
            assert {probe["port"] for probe in probes} <= ports
            assert {probe["path"] for probe in probes} <= {"/healthz", "/readyz"}


@pytest.mark.parametrize("name", ["server", "worker", "vizsla-server", "vizsla-worker"])
def test_every_command_line_is_one_of_ours(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in environments()[name].items():
        monkeypatch.setenv(variable, value)
    command, *arguments = commands()[name]
    parsed = cli.commands[command].make_context(command, list(arguments))
    assert parsed.params["project"].startswith("postgresql://vizsla@")
    assert parsed.params["log_format"] == "json"
    if command == "serve":
        assert (parsed.params["host"], parsed.params["port"], parsed.params["no_trainer"]) == (
            "0.0.0.0",
            8050,
            True,
        )


def test_every_variable_is_one_that_somebody_reads() -> None:
    theirs = re.compile(r"POSTGRES_(USER|DB|PASSWORD|PASSWORD_FILE)|PGDATA|PGPASSWORD(_FILE)?|XDG_DATA_HOME")
    for variables in environments().values():
        assert all(name in KNOWN or theirs.fullmatch(name) for name in variables)
    source = "".join(file.read_text() for file in (ROOT / "src" / "vizsla").rglob("*.py"))
    assert all(f'"{name}"' in source for name in KNOWN)


def test_ports_agree_from_the_image_to_the_service() -> None:
    image = (ROOT / "Dockerfile").read_text()
    assert "EXPOSE 8050" in image
    server = services()["server"]
    assert server["ports"] == ["8050:8050"] and "localhost:8050/readyz" in server["healthcheck"]["test"][-1]
    [pod] = [pod for name, pod, _ in pods() if name == "vizsla-server"]
    [port] = [port["containerPort"] for port in pod["containers"][0]["ports"]]
    assert port == 8050


def test_the_image_installs_extras_that_exist_and_runs_as_the_user_that_owns_its_cache() -> None:
    image = (ROOT / "Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [extras] = re.findall(r"ARG EXTRAS=(\S+)", image)
    assert {"postgres"} <= set(extras.split(",")) <= set(project["optional-dependencies"])
    assert "useradd --create-home --uid 1000 vizsla" in image and "USER vizsla" in image
    assert "chown vizsla /cache" in image
    assert {pod["securityContext"]["runAsUser"] for _, pod, _ in pods() if "securityContext" in pod} == {1000}
    for line in re.findall(r"^COPY (.+)$", image, re.MULTILINE):
        assert all((ROOT / name).exists() for name in line.split()[:-1])


@pytest.mark.slow
def test_the_entry_point_reads_secrets_from_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush hush\n")
    (tmp_path / "vizsla").write_text('#!/bin/sh\necho "$PGPASSWORD|$VIZSLA_PROJECT|$*"\n')
    (tmp_path / "vizsla").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "VIZSLA_PROJECT": "url"}

    def enter(secret: Path, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", str(ROOT / "docker" / "entrypoint.sh"), *words]
        return subprocess.run(
            command, env=env | {"PGPASSWORD_FILE": str(secret)}, capture_output=True, text=True
        )

    assert enter(tmp_path / "secret", "users", "list").stdout == "hush hush|url|users list\n"
    missing = enter(tmp_path / "nowhere", "status")
    assert missing.returncode != 0 and "nowhere" in missing.stderr and not missing.stdout


@pytest.mark.slow
@pytest.mark.parametrize("address", ["postgresql"], indirect=True)
def test_the_server_of_compose_starts_on_postgresql_and_its_own_health_check_is_content(
    address: str, photos: Path, wait_until: Any
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def here(words: list[str]) -> list[str]:
        swaps = {
            "/photos": str(photos),
            "8050": str(port),
            "0.0.0.0": "127.0.0.2",
            "localhost:": "127.0.0.2:",
        }
        return [
            re.sub("|".join(map(re.escape, swaps)), lambda found: swaps[found[0]], word) for word in words
        ]

    server = services()["server"]
    _, program, *check = here(server["healthcheck"]["test"])
    env = os.environ | {"VIZSLA_PROJECT": address, "VIZSLA_LOG_FORMAT": "json"}
    with subprocess.Popen(
        [sys.executable, "-m", "vizsla", *here(server["command"])], env=env, stderr=subprocess.DEVNULL
    ) as running:
        try:
            assert program == "python"
            wait_until(
                lambda: subprocess.run([sys.executable, *check], capture_output=True).returncode == 0, 60
            )
        finally:
            running.terminate()
    with Store.open(address) as store:
        assert store.counts().total == 60
