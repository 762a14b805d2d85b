"""What an operator may say, and the environment that follows."""

from __future__ import annotations

import os
import sys

import pytest
from longshore_forkexec.config import Config, environment
from pydantic import ValidationError


@pytest.fixture(autouse=True)
def worker(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        monkeypatch.delenv(name)
    for name in ("PATH", "HOME", "LANG", "GITHUB_TOKEN", "GRPC_TRACE", "PYTHONPATH"):
        monkeypatch.setenv(name, name.lower())


def test_nothing_has_to_be_said() -> None:
    assert Config() == Config(cgroup="auto", inherit_env=("*",), rlimits={})


def test_yaml_may_write_off_without_quotes() -> None:
    assert Config.model_validate({"cgroup": False}).cgroup == "off"


@pytest.mark.parametrize(
    "given",
    [{"cgroups": "auto"}, {"cgroup": True}, {"address": "x"}, {"rlimits": {"core": -1}}],
)
def test_what_makes_no_sense_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate(given)


def test_an_unknown_resource_limit_is_named() -> None:
    with pytest.raises(ValidationError, match="this host has no resource limit named 'files'"):
        Config(rlimits={"files": 1})


def test_all_but_what_is_private_is_inherited() -> None:
    inherited = environment(Config(), {})
    del inherited["PYTEST_CURRENT_TEST"]
    assert inherited == {"LANG": "lang", "PATH": f"path:{os.path.dirname(sys.executable)}"}


def test_what_is_given_comes_last() -> None:
    given = {"LANG": "C", "PATH": "/only", "HOME": "/there"}
    assert given.items() <= environment(Config(), given).items()


def test_only_what_the_config_names_is_inherited() -> None:
    inherited = environment(Config(inherit_env=("LAN*",)), {"PATH": "/bin"})
    assert inherited == {"LANG": "lang", "PATH": "/bin"}


def test_a_private_variable_is_inherited_when_it_is_named_in_full() -> None:
    inherited = environment(Config(inherit_env=("GITHUB_TOKEN", "GRPC_*")), {"PATH": "/bin"})
    assert inherited == {"GITHUB_TOKEN": "github_token", "PATH": "/bin"}


def test_a_guest_learns_what_the_variables_were_that_it_has_emptied() -> None:
    given = {"LONGSHORE_BLANKED": "LANG LD_PRELOAD", "LANG": "", "LD_PRELOAD": "", "PATH": "/bin"}
    restored = {"LONGSHORE_RESTORE_LANG": "lang"}
    assert environment(Config(inherit_env=("LANG",)), given) == {**given, **restored}


def test_there_is_a_path_even_when_the_worker_has_none() -> None:
    inherited = environment(Config(inherit_env=()), {})
    assert inherited == {"PATH": f"{os.defpath}:{os.path.dirname(sys.executable)}"}
