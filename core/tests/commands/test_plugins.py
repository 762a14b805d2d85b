"""`longshore plugins`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from longshore_core._commands.plugins import plugins, uses
from longshore_core._settings import WorkerSettings

QUIET = "driver: {type: 'null'}\nguest: {type: bare}\n"
"""A configuration that names plugins of the kernel only."""


def run(tmp_path: Path, text: str, *words: str) -> Result:
    (tmp_path / "worker.yaml").write_text(text)
    arguments = ["--config", str(tmp_path / "worker.yaml"), "-o", "json", *words]
    return CliRunner().invoke(plugins, arguments, catch_exceptions=False)


def rows(result: Result) -> dict[tuple[str, str], dict[str, str]]:
    return {(row["group"], row["name"]): row for row in json.loads(result.stdout)}


def test_what_the_configuration_names_is_checked_and_the_rest_is_unused(tmp_path: Path) -> None:
    table = rows(run(tmp_path, QUIET))
    assert table["guests", "bare"]["state"] == "ok"
    assert table["guests", "bare"]["detail"] == "used at guest.type"
    assert table["networks", "open"]["api"] == "1.0"
    assert table["registries", "static"]["state"] == "unused"
    assert table["commands", "plugins"]["state"] == "command"


def test_what_is_named_but_not_installed_is_broken(tmp_path: Path) -> None:
    table = rows(run(tmp_path, QUIET + "network: {type: moat}\n"))
    assert table["networks", "moat"] == {
        "group": "networks",
        "name": "moat",
        "distribution": "-",
        "version": "-",
        "api": "-",
        "state": "broken",
        "detail": "not installed, but named at network.type",
    }


def test_people_get_aligned_columns(tmp_path: Path) -> None:
    lines = run(tmp_path, QUIET, "-o", "text").stdout.splitlines()
    assert lines[0].split() == [
        "GROUP", "NAME", "DISTRIBUTION", "VERSION", "API", "STATE", "DETAIL",
    ]  # fmt: skip
    starts = {line[lines[0].index("STATE") :].split()[0] for line in lines[1:]}
    assert starts <= {"ok", "unused", "broken", "command"}


def test_every_choice_of_a_configuration_counts_as_a_use() -> None:
    settings = WorkerSettings.model_validate(
        {
            "function_driver": {"type": "a"},
            "sandbox_driver": {"type": "b"},
            "snapshot_registry": {"type": "c"},
            "http_proxy": {"middlewares": [{"type": "d"}, {"type": "e"}]},
            "admission": ["f"],
        }
    )
    named = {use.path: use.name for use in uses(settings)}
    assert (
        named.items()
        >= {
            "function_driver.type": "a",
            "sandbox_driver.type": "b",
            "snapshot_registry.type": "c",
            "http_proxy.middlewares.0.type": "d",
            "http_proxy.middlewares.1.type": "e",
            "admission.0": "f",
        }.items()
    )


@pytest.mark.parametrize(
    ("source", "detail"),
    [
        ("import no_such_thing", "cannot import acme: No module named 'no_such_thing'"),
        ("", "implements no hook longshore_network"),
        (
            "from longshore_core import hookimpl\n@hookimpl\ndef longshore_netwrok(): ...",
            "unknown hook 'longshore_netwrok' in plugin",
        ),
    ],
)
def test_a_broken_plugin_is_named_with_its_distribution_and_the_reason(
    tmp_path: Path, source: str, detail: str
) -> None:
    info = tmp_path / "acme_moat-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-moat\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[longshore.networks]\nmoat = acme\n")
    (tmp_path / "acme.py").write_text(source)
    (tmp_path / "worker.yaml").write_text(QUIET + "network: {type: moat}\n")
    program = "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
    program += "from longshore_core._commands.plugins import plugins; plugins()"
    words = ["--config", str(tmp_path / "worker.yaml"), "-o", "json"]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), *words],
        capture_output=True,
        text=True,
        check=True,
    )
    (row,) = [row for row in json.loads(done.stdout) if row["name"] == "moat"]
    assert (row["distribution"], row["state"]) == ("acme-moat", "broken")
    assert row["detail"].startswith(detail)
