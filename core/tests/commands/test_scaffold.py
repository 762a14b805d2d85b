"""`longshore plugins new`, as far as it can be seen without installing what it writes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from longshore_core import ConfigError
from longshore_core._commands.plugins import plugins
from longshore_core._commands.scaffold import KINDS
from longshore_core._plugins.hooks import SEAMS


def run(*words: str) -> Result:
    return CliRunner().invoke(plugins, ["new", *words], catch_exceptions=False)


def scaffold(kind: str, place: Path) -> Path:
    result = run(kind, f"quay_{kind}", "--dir", str(place))
    assert result.exit_code == 0, result.output
    return place


def test_there_is_a_template_for_every_seam(tmp_path: Path) -> None:
    assert {kind.group for kind in KINDS.values()} == {seam.group for seam in SEAMS}
    for name, kind in KINDS.items():
        project = scaffold(name, tmp_path / name)
        document = tomllib.loads((project / "pyproject.toml").read_text())
        entry = {f"quay_{name}": f"longshore_quay_{name}"}
        assert document["project"]["entry-points"] == {kind.group: entry}
        assert document["project"]["name"] == f"longshore-quay-{name}"


def test_by_default_it_is_written_beside_where_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written = run("driver", "my_quay").output.splitlines()
    assert sorted(written[:-2]) == [
        "longshore-my-quay/.github/workflows/ci.yml",
        "longshore-my-quay/README.md",
        "longshore-my-quay/longshore_my_quay.py",
        "longshore-my-quay/pyproject.toml",
        "longshore-my-quay/tests/test_my_quay.py",
    ]
    assert written[-1] == "next: cd longshore-my-quay && pip install -e '.[test]' && pytest"


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_is_short_and_in_good_style(kind: str, tmp_path: Path) -> None:
    project = scaffold(kind, tmp_path / "project")
    module = project / f"longshore_quay_{kind}.py"
    lines = module.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "E,F,B,UP"]
    command = [*ruff, "--line-length", "100", str(project)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    left = [path for path in project.rglob("*") if path.is_file() and "acme" in path.read_text()]
    assert left == []
    assert not re.search(r"(?<!\$)\{[a-z]+\}", (project / "README.md").read_text())


def test_the_driver_itself_takes_less_than_fifty_lines(tmp_path: Path) -> None:
    project = scaffold("driver", tmp_path / "project")
    tree = ast.parse((project / "longshore_quay_driver.py").read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    (driver,) = [node for node in classes if node.name == "QuayDriverDriver"]
    assert (driver.end_lineno or 0) - driver.lineno < 50


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("driver", "Docker"), "'Docker' cannot name a plugin"),
        (("driver", "null"), "there is a driver named 'null' already, in longshore-core"),
        (("guest", "a", "--dir", "{full}"), "is not empty; choose another place with --dir"),
    ],
)
def test_what_cannot_be_made_is_refused(
    tmp_path: Path, words: tuple[str, ...], complaint: str
) -> None:
    (tmp_path / "there").touch()
    with pytest.raises(ConfigError) as refused:
        run(*(word.format(full=tmp_path) for word in words))
    assert complaint in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
