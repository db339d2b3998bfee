"""The Helm chart: its values are checked, and what it makes is valid, restricted and complete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.documents import blocks, here
from tests.support.programs import Result, environment_for, require, run

pytestmark = [pytest.mark.real, pytest.mark.sqlite_only]

SOURCE = Path(__file__).resolve().parents[1]
CHART = SOURCE / "deploy" / "helm"
VALUES: dict[str, Any] = {
    "image": {"repository": "images.example.com/kcr", "digest": "sha256:" + "a" * 64},
    "publicUrl": "https://registry.example.com",
    "domain": "kcr.example.com",
    "existingSecret": "kcr-secrets",
    "storage": {"url": "s3://blobs?region=kr-central-2"},
    "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "kcr-tls"},
}
PROCESSES = {"web", "worker", "beat", "scanner", "trivy", "migrate"}


def helm(folder: Path, *arguments: str, values: dict[str, Any] | None = None, succeeds: bool = True) -> Result:
    (folder / "values.json").write_text(json.dumps(VALUES if values is None else values))
    command = [require("helm"), *arguments, str(CHART), "--values", str(folder / "values.json")]
    return run(command, environment=environment_for(folder), directory=SOURCE, succeeds=succeeds)


def rendered(folder: Path, **values: Any) -> list[dict[str, Any]]:
    text = helm(folder, "template", "kcr", values={**VALUES, **values}).output
    (folder / "rendered.yaml").write_text(text)
    return [document for document in yaml.safe_load_all(text) if document]


def pods(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Name of a workload -> specification of its pods."""
    return {
        document["metadata"]["name"]: document["spec"]["template"]["spec"]
        for document in documents
        if document["kind"] in {"Deployment", "Job"}
    }


def containers(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {container["name"]: container for pod in pods(documents).values() for container in pod["containers"]}


def environment_of(container: dict[str, Any]) -> dict[str, str]:
    entries = container.get("env", [])
    names = [entry["name"] for entry in entries]
    assert len(names) == len(set(names)), "a variable is set twice"
    return {entry["name"]: entry["value"] for entry in entries}


def test_chart_passes_helms_own_checks(tmp_path):
    helm(tmp_path, "lint", "--strict")
    assert len(list((CHART / "templates").iterdir())) <= 20


@pytest.mark.parametrize(
    "more", [{}, {"ingress": {"enabled": False}, "metrics": {"enabled": False}}, {"networkPolicy": {"enabled": False}}]
)
def test_output_is_valid_for_kubernetes(tmp_path, more):
    rendered(tmp_path, **more)
    run(
        [require("kubernetes-validate"), "--strict", str(tmp_path / "rendered.yaml")],
        environment=environment_for(tmp_path),
        directory=tmp_path,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", {"repository": ""}),
        ("image", {"repository": "x", "digest": "sha256:short"}),
        ("publicUrl", "registry.example.com"),
        ("publicUrl", "https://registry.example.com/path"),
        ("existingSecret", ""),
        ("storage", {}),
        ("storage", {"url": "s3://blobs", "existingClaim": "blobs"}),
        ("storage", {"url": "file:///data"}),
        ("settings", {"PATH": "/tmp"}),
        ("settings", {"KCR_RECOVERY_DAYS": 30}),
        ("web", {"replicas": -1}),
        ("web", {"replica": 2}),
    ],
)
def test_bad_values_are_refused_by_name(tmp_path, name, value):
    answer = helm(tmp_path, "template", values={**VALUES, name: value}, succeeds=False)
    assert f"/{name}" in answer.errors or f"'{name}'" in answer.errors


def test_documented_values_and_secret_are_those_of_the_chart(tmp_path):
    """docs/operate/kubernetes.md, "Install". Its secret has what the pods take from it."""
    (values,) = blocks("kubernetes.md", "Install", "yaml")
    values = here(values, {"sha256:…": f"sha256:{'a' * 64}", "BUCKET": "blobs"})
    text = helm(tmp_path, "template", "kcr", values=yaml.safe_load(values)).output
    assert "nginx.ingress.kubernetes.io/proxy-body-size" in text
    (command,) = blocks("kubernetes.md", "Install")
    require("kubectl")
    command = f"{command.rstrip()} --dry-run=client --output=yaml"
    made = yaml.safe_load(run(["sh", "-ec", command], environment=environment_for(tmp_path)).output)
    assert made["metadata"]["name"] == yaml.safe_load(values)["existingSecret"]
    assert set(made["data"]) >= {"KCR_SECRET_KEY", "KCR_DATABASE_URL", "KCR_REDIS_URL"}


def test_documented_upgrade_with_a_stop_stops_all_pods(tmp_path):
    """docs/operate/kubernetes.md, "Upgrade". There is no cluster: the commands print what they would apply."""
    (commands,) = blocks("kubernetes.md", "Upgrade")
    (tmp_path / "values.json").write_text(json.dumps(VALUES))
    changed = {"helm upgrade": f"{require('helm')} template", "values.yaml": str(tmp_path / "values.json")}
    stopped, started = (
        list(
            yaml.safe_load_all(run(["sh", "-ec", line], environment=environment_for(tmp_path), directory=SOURCE).output)
        )
        for line in here(commands, changed).splitlines()
    )
    numbers = [
        {each["spec"]["replicas"] for each in documents if each and each["kind"] == "Deployment"}
        for documents in (stopped, started)
    ]
    assert numbers[0] == {0}
    assert 0 not in numbers[1]


def test_pods_have_no_privileges(tmp_path):
    documents = rendered(tmp_path)
    for name, pod in pods(documents).items():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert all(set(volume) & {"emptyDir", "persistentVolumeClaim"} for volume in pod["volumes"])
    found = containers(documents)
    assert set(found) == PROCESSES
    for container in found.values():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        assert container["image"] == "images.example.com/kcr@sha256:" + "a" * 64


def test_container_of_trivy_has_no_settings_and_no_files_of_the_registry(tmp_path):
    trivy = containers(rendered(tmp_path))["trivy"]
    assert "env" not in trivy
    assert "envFrom" not in trivy
    places = {mount["mountPath"]: mount.get("readOnly", False) for mount in trivy["volumeMounts"]}
    assert places == {"/tmp": False, "/scans/scanning": False, "/scans/vulnerability-db": True}


def test_processes_get_the_same_settings_and_no_volume_is_shared(tmp_path):
    documents = rendered(tmp_path, settings={"KCR_RECOVERY_DAYS": "30", "KCR_ALLOWED_HOSTS": "intern.example.com"})
    for name, container in containers(documents).items():
        if name == "trivy":
            continue
        settings = environment_of(container)
        assert settings["KCR_PUBLIC_URL"] == "https://registry.example.com"
        assert settings["KCR_STORAGE_URL"] == "s3://blobs?region=kr-central-2"
        assert settings["KCR_RECOVERY_DAYS"] == "30"
        assert settings["KCR_ALLOWED_HOSTS"] == "localhost,127.0.0.1,intern.example.com"
        assert container["envFrom"] == [{"secretRef": {"name": "kcr-secrets"}}]
    assert "PersistentVolumeClaim" not in {document["kind"] for document in documents}
    claims = [
        volume for pod in pods(documents).values() for volume in pod["volumes"] if "persistentVolumeClaim" in volume
    ]
    assert not claims


def test_existing_claim_replaces_the_bucket(tmp_path):
    documents = rendered(tmp_path, storage={"existingClaim": "blobs"})
    web = pods(documents)["kcr-web"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "blobs"}} in web["volumes"]
    assert "KCR_STORAGE_URL" not in environment_of(web["containers"][0])


def test_stopped_release_has_zero_replicas_and_the_same_objects(tmp_path):
    running, stopped = rendered(tmp_path), rendered(tmp_path, stopped=True)
    numbers = {each["metadata"]["name"]: each["spec"]["replicas"] for each in stopped if each["kind"] == "Deployment"}
    assert numbers == dict.fromkeys(("kcr-web", "kcr-worker", "kcr-scanner", "kcr-beat"), 0)
    assert [each["kind"] for each in stopped] == [each["kind"] for each in running]


def test_ingress_serves_the_public_host_and_project_hosts(tmp_path):
    (ingress,) = [each for each in rendered(tmp_path) if each["kind"] == "Ingress"]
    hosts = ["registry.example.com", "*.kr-central-2.kcr.example.com"]
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == hosts
    assert ingress["spec"]["tls"] == [{"hosts": hosts, "secretName": "kcr-tls"}]


def test_only_web_pods_are_reached_from_outside(tmp_path):
    policies = {
        each["metadata"]["name"]: each["spec"] for each in rendered(tmp_path) if each["kind"] == "NetworkPolicy"
    }
    assert policies["kcr"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policies["kcr"]
    assert policies["kcr-web"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "web"
    assert policies["kcr"]["egress"][1]["to"][0]["ipBlock"]["except"] == ["169.254.169.254/32"]
