"""A stranger's plugin for every seam: built, installed, selected, run, and taken away again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hatchling.build import build_wheel

from tests.system.environment import Environment
from tests.system.harness import System, until

SOURCES = Path(__file__).with_name("third_party")
SEAMS = {
    "driver": "longshore.drivers",
    "guest": "longshore.guests",
    "network": "longshore.networks",
    "registry": "longshore.registries",
    "middleware": "longshore.middlewares",
    "secrets": "longshore.secrets",
    "admission": "longshore.admissions",
    "command": "longshore.commands",
}
CONFIG = {
    "driver": {"type": "acme", "prefix": ["env"]},
    "guest": {"type": "acme"},
    "network": {"type": "acme"},
    "secrets": {"type": "acme"},
    "admission": ["acme"],
    "snapshot_registry": {"type": "acme", "base": "registry.test"},
}
MIDDLEWARES = [{"type": "acme", "word": "acme-word"}]

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "acme-{seam}"
version = "0.3"
[project.entry-points."{group}"]
acme = "acme_{seam}{attribute}"
[tool.hatch.build.targets.wheel]
packages = ["acme_{seam}"]
"""


def build(seam: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project = directory / seam
    package = project / f"acme_{seam}"
    package.mkdir(parents=True)
    source = (SOURCES / f"{seam}.py").read_text(encoding="utf-8")
    (package / "__init__.py").write_text(source, encoding="utf-8")
    attribute = ":command" if seam == "command" else ""
    (project / "pyproject.toml").write_text(
        PYPROJECT.format(seam=seam, group=SEAMS[seam], attribute=attribute), encoding="utf-8"
    )
    monkeypatch.chdir(project)
    return project / build_wheel(str(project))


@pytest.mark.timeout(300)
def test_a_strangers_plugins_are_installed_selected_run_and_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = Environment(tmp_path / "venv")
    wheels = [str(build(seam, tmp_path / "src", monkeypatch)) for seam in SEAMS]
    environment.pip("install", "--no-index", "--no-deps", *wheels)
    assert environment.longshore("acme").stdout == "hello from acme\n"

    (tmp_path / "run").mkdir()
    whole = System(tmp_path / "run", worker_settings=CONFIG)
    config = json.loads(whole.worker_config.read_text(encoding="utf-8"))
    config["http_proxy"]["middlewares"] = MIDDLEWARES
    whole.worker_config.write_text(json.dumps(config), encoding="utf-8")
    try:
        run(whole, environment)
    except BaseException:
        print(whole.logs())  # noqa: T201  # read with the failure
        raise
    finally:
        whole.close()

    environment.pip("uninstall", "--yes", *(f"acme-{seam}" for seam in SEAMS if seam != "driver"))
    for path in (
        "guest.type",
        "network.type",
        "secrets.type",
        "admission.0",
        "snapshot_registry.type",
        "http_proxy.middlewares.0.type",
    ):
        complaint = missing(environment, whole, path)
        assert complaint.startswith(f"error: {path}: no plugin named 'acme'"), complaint
    environment.pip("uninstall", "--yes", "acme-driver")
    complaint = missing(environment, whole, "driver.type")
    assert complaint.startswith("error: driver.type: no plugin named 'acme'"), complaint
    gone = environment.longshore("acme")
    assert gone.returncode == 2
    assert "Traceback" not in gone.stderr


def run(whole: System, environment: Environment) -> None:
    """One sandbox's life, with every one of the stranger's plugins taking part."""
    python = str(environment.python)
    for name, flags in (("server", []), ("proxy", []), ("worker", ["--no-proxy"])):
        file = whole.server_config if name == "server" else whole.worker_config
        whole.start(name, [python, "-m", "longshore", name, "--config", str(file), *flags])
    whole.wait_ready()
    id_ = whole.create(
        image="fine",
        entrypoint=["sleep", "60"],
        secret_names=["API_KEY"],
        network={"allow_internet_access": True, "deny_out": ["10.0.0.0/8"]},
    )
    state = whole.state_dir
    assert (state / "network/acme/admitted").read_text() == "10.0.0.0/8"
    assert (state / "guest/acme/gone").read_text() == "API_KEY=YEK_IPA"
    assert (state / "snapshot_registry/acme/opened").read_text() == "registry.test/s:n"
    answer = whole.proxy.get("/", headers={"Tensorlake-Sandbox-Id": "unknown"})
    assert answer.headers["x-signed-by"] == "acme-word"

    refused = whole.api.post(
        "/v1/namespaces/default/sandboxes", params={"wait": "true"}, json={"image": "forbidden"}
    )
    assert refused.json()["code"] == "SANDBOX_FAILED"
    assert "vetoed by plugin acme (acme-admission 0.3)" in refused.json()["error"]

    whole.delete(id_)
    until(lambda: whole.sandbox(id_)["status"] == "terminated", "it ends")
    until((state / "guest/acme/stopped").exists, "its guest is told to stop")
    until((state / "network/acme/revoked").exists, "its policy is revoked")


def missing(environment: Environment, whole: System, path: str) -> str:
    """What the process says that needs the plugin at `path`, with only that one selected."""
    config = json.loads(whole.worker_config.read_text(encoding="utf-8"))
    config["http_proxy"].pop("middlewares", None)
    for key in CONFIG:
        config.pop(key, None)
    top = path.split(".")[0]
    if top == "http_proxy":
        config["http_proxy"]["middlewares"] = MIDDLEWARES
    else:
        config[top] = CONFIG[top]
    file = whole.directory / "missing.yaml"
    file.write_text(json.dumps(config), encoding="utf-8")
    process = "proxy" if top == "http_proxy" else "worker"
    done = environment.longshore(process, "--config", str(file))
    assert done.returncode == 2, done
    return done.stderr
