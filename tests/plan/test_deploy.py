"""Descriptions of a service: right in form for those who read them, and right in numbers."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from puna.errors import RequestError
from puna.model.family import FAMILY
from puna.plan.deploy.service import KEYS, USER, Service
from puna.plan.deploy.systemd import systemd
from puna.plan.deploy.targets import RENDERERS
from puna.plan.deploy.yaml_text import documents, to_yaml
from puna.plan.serving import Format, Load, needs_of, weight_bytes


def service_of(
    member: str = "llama-3.1-8b",
    *,
    gpu: str | None = "l40s",
    kind: Format = "bfloat16",
    **more: Any,
) -> Service:
    config, load = FAMILY[member].config, Load(running=8, tokens=4096)
    return Service(
        name=member.replace(".", "-"), model=f"/srv/models/{member}", load=load,
        needs=needs_of(config, load, kind=kind, gpu=gpu),
        disk_bytes=weight_bytes(config, "bfloat16"), **more,
    )  # fmt: skip


SERVICES = {
    "one device": service_of(),
    "many servers": service_of(replicas=3, drain_s=120),
    "eight devices": service_of("llama-3.1-70b", gpu="a100-40"),
    "two machines": service_of("llama-3.1-405b", gpu="h100"),
    "a processor": service_of("llama-3.2-1b", gpu=None, kind="int4", quantize="int4", replicas=2),
}
ON_ONE_MACHINE = sorted(set(SERVICES) - {"two machines"})


def render(target: str, which: str) -> dict[str, str]:
    return RENDERERS[target](SERVICES[which])


def manifests(which: str) -> dict[str, Any]:
    texts = render("kubernetes", which).values()
    found = [part for text in texts for part in yaml.safe_load_all(text)]
    return {f"{part['kind']} {part['metadata']['name']}": part for part in found}


def pod_of(found: dict[str, Any]) -> dict[str, Any]:
    (pod,) = [m["spec"]["template"]["spec"] for m in found.values()
              if "template" in m.get("spec", {})]  # fmt: skip
    return pod


def program(name: str) -> str:
    path = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def check(*command: str, text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# Validators, where they are installed


@pytest.mark.parametrize("which", SERVICES)
def test_kubernetes_knows_every_field_of_the_manifests(which: str) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is missing")
    for manifest in manifests(which).values():
        validator.validate(manifest, "1.33", strict=True)


@pytest.mark.parametrize("which", ON_ONE_MACHINE)
def test_compose_reads_its_file(which: str) -> None:
    compose = pytest.importorskip("compose_spec", reason="compose-spec is not installed")
    read = compose.PyCompose.from_yaml(render("docker", which)["compose.yaml"])
    assert read.service_names() == ["puna"]


@pytest.mark.parametrize("which", ["one device", "many servers"])
def test_hadolint_finds_nothing_in_the_dockerfile(which: str) -> None:
    check(program("hadolint"), "-", text=render("docker", which)["Dockerfile"])


@pytest.mark.parametrize("which", SERVICES)
def test_bash_and_shellcheck_accept_the_batch_script(which: str) -> None:
    (text,) = render("slurm", which).values()
    check("bash", "-n", text=text)
    check(program("shellcheck"), "-", text=text)


@pytest.mark.parametrize("which", ON_ONE_MACHINE)
def test_systemd_accepts_the_unit_and_finds_it_closed(which: str, tmp_path: Path) -> None:
    analyze = program("systemd-analyze")
    for name in ("puna", "torchrun"):
        shutil.copy(program("true"), tmp_path / name)
    ((name, text),) = systemd(SERVICES[which], program=str(tmp_path)).items()
    (tmp_path / name).write_text(text)
    said = check(analyze, "verify", str(tmp_path / name))
    assert name not in said, said
    told = check(analyze, "security", "--offline=true", "--no-pager", str(tmp_path / name))
    found = re.search(r"exposure level for .*: ([\d.]+)", told)
    assert found
    assert float(found[1]) < 3  # of 10; a unit without hardening has 9.6


# What is in them, whoever is there to read


@pytest.mark.parametrize("which", SERVICES)
def test_a_pod_has_the_devices_and_the_memory_that_were_counted(which: str) -> None:
    service, found = SERVICES[which], manifests(which)
    kind = "StatefulSet" if which == "two machines" else "Deployment"
    workload = found[f"{kind} {service.name}"]
    pod = workload["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    limits = container["resources"]["limits"]
    assert limits.get("nvidia.com/gpu", 0) == service.needs.gpus_a_node * bool(service.needs.gpu)
    assert limits["memory"] == f"{service.memory_gib}Gi"
    assert service.memory_gib * 2**30 >= service.needs.host_bytes
    assert workload["spec"]["replicas"] == (2 if which == "two machines" else service.replicas)
    claim = found[f"PersistentVolumeClaim {service.name}-model"]["spec"]
    assert claim["resources"]["requests"]["storage"] == f"{service.disk_gib}Gi"
    assert service.disk_gib * 2**30 >= service.disk_bytes


@pytest.mark.parametrize("which", SERVICES)
def test_a_server_may_drain_before_it_is_killed(which: str) -> None:
    service, found = SERVICES[which], manifests(which)
    pod = pod_of(found)
    assert pod["terminationGracePeriodSeconds"] >= service.drain_s + 10
    (container,) = pod["containers"]
    assert f"--drain-s {service.drain_s}" in " ".join(container["args"])
    if which in ON_ONE_MACHINE:
        unit = next(iter(render("systemd", which).values()))
        assert f"TimeoutStopSec={service.stop_s}" in unit
        compose = yaml.safe_load(render("docker", which)["compose.yaml"])
        assert compose["services"]["puna"]["stop_grace_period"] == f"{service.stop_s}s"
        assert "livenessProbe" in container  # of the port: /health is 503 while a server drains
        assert "httpGet" not in container["livenessProbe"]
        assert container["readinessProbe"]["httpGet"]["path"] == "/health"


@pytest.mark.parametrize("which", SERVICES)
def test_nothing_runs_as_root_or_may_write_where_it_need_not(which: str) -> None:
    pod = pod_of(manifests(which))
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == USER
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    security = container["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    if which in ON_ONE_MACHINE:
        files = render("docker", which)
        assert f"\nUSER {USER}\n" in files["Dockerfile"]
        service = yaml.safe_load(files["compose.yaml"])["services"]["puna"]
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"]
        assert service["user"] == f"{USER}:{USER}"


@pytest.mark.parametrize("which", SERVICES)
def test_a_key_is_needed_and_none_is_in_any_file(which: str) -> None:
    secret = manifests(which)[f"Secret {SERVICES[which].name}-keys"]
    assert secret["stringData"] == {KEYS: ""}
    for target in RENDERERS:
        if target in ("docker", "systemd") and which == "two machines":
            continue
        words = words_of(which, target)
        assert words[words.index("--api-key-env") + 1] == KEYS


def words_of(which: str, target: str) -> list[str]:
    """Return the command line of `puna` in a file, as whoever starts it would split it."""
    text = "".join(render(target, which).values())
    match target:
        case "systemd":
            line = next(line for line in text.splitlines() if line.startswith("ExecStart="))
            words = shlex.split(line.removeprefix("ExecStart="))
        case "slurm":
            joined = text.replace("\\\n", " ")
            line = next(line for line in joined.splitlines() if line.startswith("srun "))
            words = shlex.split(line.removesuffix("&"))  # after `puna`, or the script of a node
        case "docker":
            words = yaml.safe_load(render(target, which)["compose.yaml"])["services"]["puna"][
                "command"
            ]
        case _:
            words = pod_of(manifests(which))["containers"][0]["args"]
    return words[words.index("serve") :]


@pytest.mark.parametrize("target", sorted(RENDERERS))
@pytest.mark.parametrize("which", ON_ONE_MACHINE)
def test_what_is_started_is_a_command_of_puna(target: str, which: str) -> None:
    from puna.cli.main import command_line

    service, words = SERVICES[which], words_of(which, target)
    known = [word for word in words if word.startswith("--")]
    if service.is_spread:
        at = words.index("--tensor-parallel")
        assert words[at + 1] == str(service.needs.tensor_parallel)
        del words[at : at + 2]
    command_line(words).parse_args(words)
    replicas = "--replicas" in known
    assert replicas == (service.replicas > 1 and target != "kubernetes")
    assert words[words.index("--cache-tokens") + 1] == str(8 * 4096)


def test_a_server_over_two_machines_is_started_on_both_and_meets_at_the_first() -> None:
    found = manifests("two machines")
    name = SERVICES["two machines"].name
    (container,) = found[f"StatefulSet {name}"]["spec"]["template"]["spec"]["containers"]
    assert container["command"][:4] == [
        "torchrun", "--nnodes=2", "--nproc-per-node=8", "--node-rank=$(NODE_RANK)"
    ]  # fmt: skip
    assert f"--master-addr={name}-0.{name}-nodes" in container["command"]
    assert container["env"][1]["name"] == "NODE_RANK"
    args = " ".join(container["args"])
    assert args.endswith("--tensor-parallel 8 --pipeline-parallel 2")
    assert found[f"Service {name}-nodes"]["spec"]["publishNotReadyAddresses"] is True
    selector = found[f"Service {name}"]["spec"]["selector"]
    assert selector["statefulset.kubernetes.io/pod-name"] == f"{name}-0"
    (script,) = render("slurm", "two machines").values()
    assert "#SBATCH --nodes=2\n" in script
    assert "#SBATCH --gpus-per-node=8\n" in script
    for target in ("docker", "systemd"):
        with pytest.raises(RequestError, match="2 machines"):
            render(target, "two machines")
    with pytest.raises(RequestError, match="starts one server"):
        RENDERERS["slurm"](service_of("llama-3.1-70b", gpu="a100-40", replicas=2))
    with pytest.raises(RequestError, match="format of its weights"):
        service_of("llama-3.1-405b", gpu="h100", kind="fp8", quantize="fp8")


def test_a_service_has_a_name_that_every_reader_takes() -> None:
    with pytest.raises(RequestError, match="small letters"):
        Service(name="Llama 3", model="/m", needs=SERVICES["one device"].needs, load=Load(),
                disk_bytes=1)  # fmt: skip
    with pytest.raises(RequestError, match="without spaces"):
        Service(name="x", model="/a b", needs=SERVICES["one device"].needs, load=Load(),
                disk_bytes=1)  # fmt: skip


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
SCALARS = TEXT | st.booleans() | st.integers(-99, 99) | st.sampled_from(["no", "1e3", "0x1", "-"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_yaml_says_what_was_given(value: dict[str, Any]) -> None:
    text = documents(to_yaml(value, comment="one"), to_yaml({"a": value}))
    assert list(yaml.safe_load_all(text)) == [value, {"a": value}]
