"""The deployment examples hold what they promise, as far as a machine without containers can tell."""

from __future__ import annotations

import re
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from tests.programs import ROOT
from venice_async.cli.app import app

DEPLOY = ROOT / "examples" / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())
USER = "10001:10001"


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def test_the_workers_are_started_again_and_know_where_the_key_is() -> None:
    (compose,), kubernetes = documents("compose.fleet.yaml"), documents("kubernetes/worker.yaml")
    (deployment,) = [document for document in kubernetes if document["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    web, worker = compose["services"]["web"], compose["services"]["worker"]
    commands = [worker["entrypoint"] + worker["command"], container["command"]]
    unit = (DEPLOY / "systemd" / "venice-worker.service").read_text(encoding="utf-8")
    assert "\nRestartForceExitStatus=75\n" in unit
    commands.append(["venice-async", *unit.split("\nExecStart=", 1)[1].splitlines()[0].split()[1:]])
    known = {name for option in app["worker"].assemble_argument_collection() for name in option.names}
    for program, command, *words in commands:
        assert ("venice-async", "worker") == (program, command)
        assert set() == {word for word in words if word.startswith("--")} - known
    assert "VENICE_API_KEY" in worker["environment"]
    assert "VENICE_API_KEY" not in web["environment"]  # who submits needs no key
    assert [(True, USER)] * 2 == [(each["read_only"], each["user"]) for each in (web, worker)]


def test_the_manifests_of_kubernetes_name_each_other_right() -> None:
    found = {document["kind"]: document for document in documents("kubernetes/web.yaml")}
    pod = found["Deployment"]["spec"]["template"]
    labels, spec = pod["metadata"]["labels"], pod["spec"]
    (container,) = spec["containers"]
    assert labels == found["Deployment"]["spec"]["selector"]["matchLabels"]
    assert labels == found["Service"]["spec"]["selector"]
    assert labels == found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}
    claims = {volume.get("persistentVolumeClaim", {}).get("claimName") for volume in spec["volumes"]}
    assert found["PersistentVolumeClaim"]["metadata"]["name"] in claims
    assert {"/healthz", "/readyz"} == {
        container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")
    }
    secret = {each["name"] for each in container["env"] if "secretKeyRef" in each["valueFrom"]}
    assert {"VENICE_API_KEY", "VENICE_JOURNAL"} == secret
    assert (True, True, False, ["ALL"]) == (
        spec["securityContext"]["runAsNonRoot"],
        container["securityContext"]["readOnlyRootFilesystem"],
        container["securityContext"]["allowPrivilegeEscalation"],
        container["securityContext"]["capabilities"]["drop"],
    )


def test_the_services_of_compose_are_confined_and_leave_no_secret_in_the_file() -> None:
    (compose,) = documents("compose.yaml")
    web, database = compose["services"]["web"], compose["services"]["db"]
    volumes = {volume.partition(":")[0] for each in (web, database) for volume in each["volumes"]}
    assert volumes == set(compose["volumes"])
    assert (DEPLOY / web["build"]["context"] / web["build"]["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    assert (True, USER, ["ALL"], ["no-new-privileges:true"]) == (
        web["read_only"],
        web["user"],
        web["cap_drop"],
        web["security_opt"],
    )
    assert web["tmpfs"][0].startswith("/tmp:")  # noqa: S108 - of the container
    assert {"db": {"condition": "service_healthy"}} == web["depends_on"]
    secrets = [
        value
        for each in (web, database)
        for name, value in each["environment"].items()
        if "KEY" in name or "PASSWORD" in name
    ]
    assert [] == [value for value in secrets if not value.startswith("${")]
    assert web["environment"]["VENICE_JOURNAL"] == "postgresql://venice@db/venice"


def test_the_image_runs_as_nobody_in_particular_and_takes_only_files_that_exist() -> None:
    lines = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text(encoding="utf-8")).splitlines()
    last = {word: rest for word, _, rest in (line.partition(" ") for line in lines if line)}
    assert (USER, "SIGTERM") == (last["USER"], last["STOPSIGNAL"])
    assert last["ENTRYPOINT"].startswith('["python", "/app/service_fastapi.py", "/clips"')  # no shell
    copied = [
        path
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for path in line.split()[1:-1]
    ]
    assert [] == [path for path in copied if not (ROOT / path).exists()]
    (install,) = [line for line in lines if "pip install" in line]
    extras = re.search(r"\[([\w,]+)\]", install)
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert extras is not None
    assert [] == [name for name in extras[1].split(",") if f"\n{name} = [" not in text]


@pytest.mark.parametrize("name", ["compose.yaml", "compose.fleet.yaml"])
def test_the_files_of_compose_keep_to_its_specification(name: str) -> None:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    text = text.replace("8080-8089:8080", "8080:8080")  # the specification allows this, the parser does not
    assert set(yaml.safe_load(text)["services"]) == set(parsed(text).service_names())
    for typo in (("restart:", "restarts:"), ("interval: 2s", "interval: soon")):
        with pytest.raises(ValueError, match=r"restarts|soon"):
            parsed(text.replace(*typo))


def parsed(text: str) -> Any:
    """Return what the parser makes of a file whose anchors are resolved."""
    return PyCompose.from_yaml(yaml.safe_dump(yaml.safe_load(text)))


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_the_units_start_again_after_a_failure_and_are_confined(unit: Path, tmp_path: Path) -> None:
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    service = parser["Service"]
    assert ("on-failure", "yes", "strict") == (
        service["Restart"],
        service["NoNewPrivileges"],
        service["ProtectSystem"],
    )
    assert "VENICE_API_KEY" not in service
    verify = shutil.which("systemd-analyze")
    if verify is not None:
        text = re.sub(r"(?<=ExecStart=)\S+", "/bin/true", unit.read_text(encoding="utf-8"))
        (tmp_path / unit.name).write_text(text)
        command = [verify, "verify", str(tmp_path / unit.name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
        assert (0, []) == (
            done.returncode,
            [line for line in done.stderr.splitlines() if unit.name.partition("@")[0] in line],
        )
