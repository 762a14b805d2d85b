"""`longshore config`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from longshore_core import ConfigError
from longshore_core._commands.config import config
from longshore_core._settings import WorkerSettings
from ruamel.yaml import YAML

QUIET = "driver: {type: 'null'}\nguest: {type: bare}\n"


def run(*words: str) -> Result:
    return CliRunner().invoke(config, words, catch_exceptions=False)


def file(tmp_path: Path, text: str) -> str:
    (tmp_path / "worker.yaml").write_text(text)
    return str(tmp_path / "worker.yaml")


def test_a_good_configuration_is_printed_as_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGE", "production")
    result = run("check", file(tmp_path, QUIET + "env: ${STAGE}\n"))
    shown = YAML(typ="safe", pure=True).load(result.stdout)
    assert shown["env"] == "production"
    assert shown["driver"] == {"type": "null"}
    assert WorkerSettings.model_validate(shown).env == "production"


def test_secrets_are_not_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "hunter2")
    registry = "{url: 'http://x', repository: y, username: z, password: '${PASSWORD}'}"
    text = QUIET + f"snapshot_registry: {registry}\n"
    for words in (("show", "--config"), ("check",)):
        result = run(*words, file(tmp_path, text))
        assert "hunter2" not in result.output
        assert "password: '[redacted]'" in result.output


def test_a_wrong_key_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run("check", file(tmp_path, "http_proxy: {prot: 1}"))
    assert str(caught.value).startswith("http_proxy.prot: ")


def test_a_plugin_that_is_not_installed_is_refused_where_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run("check", file(tmp_path, QUIET + "network: {type: opne}\n"))
    assert str(caught.value).startswith(
        "network.type: no plugin named 'opne'; did you mean 'open'? (installed: "
    )


def test_a_plugins_section_is_checked_by_the_plugins_own_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run("check", file(tmp_path, QUIET + "network: {type: open, gates: 3}\n"))
    assert caught.value.path == "network.gates"


def test_without_a_file_the_defaults_are_shown() -> None:
    shown = YAML(typ="safe", pure=True).load(run("show").stdout)
    assert shown["http_proxy"]["port"] == 8095
