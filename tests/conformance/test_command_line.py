"""The kit as people run it: one command of pytest, its options, and its last line."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from longshore_core.testing.report import from_json


def pytest_run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--pyargs"]
    return subprocess.run(
        [*command, "longshore_core.conformance", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_run_of_pytest_examines_a_driver_and_reports(tmp_path: Path) -> None:
    done = pytest_run(
        *("--driver=null", "--laws=L1,L1.4,R5", "-rs", "-q"),
        *("--report=out.json", "--matrix=out.md", "--junitxml=out.xml"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout
    assert "not declared: does not declare programs" in done.stdout
    assert "examined in part: null (longshore-core 0.1.0), kit 1.0, core: 3 of " in done.stdout
    assert "conforms" not in done.stdout
    report = from_json((tmp_path / "out.json").read_text())
    verdicts = {line.id: line.verdict for line in report.lines}
    assert verdicts == {"L1": "not declared", "L1.4": "passed", "R5": "passed"}
    assert "| life | 1 of 1 |" in (tmp_path / "out.md").read_text()
    assert "longshore.law" in (tmp_path / "out.xml").read_text()


def test_a_run_that_is_cut_off_does_not_sign_off(tmp_path: Path) -> None:
    (tmp_path / "stopping.py").write_text(
        "def pytest_runtest_logfinish(nodeid):\n    if '[I1-' in nodeid: raise KeyboardInterrupt\n"
    )
    done = pytest_run("--driver=null", "-q", "-p", "stopping", cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert "examined in part: null" in done.stdout
    assert "conforms" not in done.stdout


def test_a_driver_in_a_single_file_is_examined_by_module_and_name(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from longshore_core._builtin.null_driver import NullDriver\n"
        "from longshore_core import Exit, Facts\n"
        "class Mine(NullDriver):\n"
        "    facts = Facts(programs=False, sockets=False, images=False, mounts=False)\n"
        "    async def wait(self, handle): return Exit(code=1)\n"
    )
    (tmp_path / "conftest.py").write_text("import sys; sys.path.insert(0, '.')\n")
    good = pytest_run("--driver=mine:Mine", "--laws=L4,F3", "-q", cwd=tmp_path)
    assert good.returncode == 0, good.stdout
    (tmp_path / "mine.yaml").write_text("")
    how = ["--driver=mine:Mine", "--plugin-config=mine.yaml", "--image=an/image:1"]
    how += ["--law-seed=7", "--patience=2.0", "--engine-stop=stop it", "--engine-start=true"]
    how += ["--exclusive-host"]
    bad = pytest_run(*how, "--laws=L1.2,L1.4", "--report=out.json", "-q", cwd=tmp_path)
    assert bad.returncode == 1, bad.stdout
    assert "expected Exit(code=None, signal=<Signals.SIGTERM: 15>" in bad.stdout
    again = shlex.join(["pytest", "--pyargs", "longshore_core.conformance", *how, "--laws=L1.2"])
    assert f"again: {again}\n" in bad.stdout
    assert "does not conform: mine:Mine" in bad.stdout


def test_the_driver_that_another_is_compared_with_has_a_config_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("engine_away_file: nowhere")
    words = ("--driver=null", "--laws=L1.4", "--against=reference", "-q")
    done = pytest_run(*words, "--against-config=other.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    (tmp_path / "other.yaml").write_text("no_such_key: 1")
    done = pytest_run(*words, "--against-config=other.yaml", cwd=tmp_path)
    assert done.returncode != 0
    assert "no_such_key" in done.stdout


TAKES_OUR_NAMES = """
def pytest_addoption(parser):
    group = parser.getgroup("selenium")
    group.addoption("--driver", help="a browser")
    group.addoption("--profile", action="store_true")
"""


def test_a_plugin_that_has_one_of_our_options_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "taking.py").write_text(TAKES_OUR_NAMES)
    (tmp_path / "mine.py").write_text(
        "from longshore_core._builtin.null_driver import NullDriver\n"
        "class Mine(NullDriver):\n"
        "    async def survey(self): raise KeyError\n"
    )
    words = ["-p", "taking", "--driver=Firefox", "--profile", "-q", "--laws=F3"]
    done = pytest_run(*words, "--longshore-driver=mine:Mine", cwd=tmp_path)
    assert done.returncode == 1, done.stdout
    assert "does not conform: mine:Mine" in done.stdout
    assert "conformance --longshore-driver=mine:Mine --laws=F3" in done.stdout


def test_a_conftest_that_has_one_of_our_options_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(TAKES_OUR_NAMES)
    (tmp_path / "test_it.py").write_text(
        "def test_it(pytestconfig):\n    assert pytestconfig.getoption('--driver') == 'Firefox'\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--driver=Firefox"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_option_has_a_long_spelling_that_nobody_else_has(tmp_path: Path) -> None:
    words = ["--longshore-driver=null", "--longshore-laws", "L1.4", "--longshore-report=out.json"]
    done = pytest_run(*words, "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert from_json((tmp_path / "out.json").read_text()).plugin == "null"


def test_a_comparison_of_nothing_is_no_success(tmp_path: Path) -> None:
    words = ("--driver=null", "--against=reference", "-q")
    done = pytest_run(*words, "--laws=L1", cwd=tmp_path)
    assert done.returncode == 5, done.stdout
    assert "nothing was compared" in done.stdout


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--driver=nul"], "did you mean 'null'?"),
        (["--driver=null", "--laws=L1,Z9"], "no law or group is called Z9"),
        (["--driver=null", "--network=open"], "name one plugin to examine"),
        (
            ["--network=open", "--profile=perf"],
            "--profile=perf: it has no laws for a network; those of core, full are",
        ),
        (["--driver=null", "--engine-stop=true"], "belong together"),
        (["--driver=null", "--patience=0.5"], "--patience: a number from 1 is wanted"),
        (["--driver=null", "--patience=nan"], "--patience: a number from 1 is wanted"),
    ],
)
def test_a_command_line_that_cannot_be_meant_is_explained(
    words: list[str], complaint: str, tmp_path: Path
) -> None:
    done = pytest_run(*words, cwd=tmp_path)
    assert done.returncode == 4
    assert complaint in done.stderr + done.stdout
