"""The kit itself: it sees what is left behind, tells its verdicts apart, and reports them."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from longshore_core import __version__
from longshore_core.testing import (
    DRIVER_LAWS,
    LAWS,
    Environment,
    Failed,
    Law,
    NotDeclared,
    Passed,
    Profile,
    Settings,
    find_subject,
    in_profile,
    run_laws,
)
from longshore_core.testing import golden as golden_handles
from longshore_core.testing.bench import Bench
from longshore_core.testing.law import Missing
from longshore_core.testing.report import Line, from_json, line_of, matrix, report_of, to_json

ROOT = Path(__file__).resolve().parents[2]


def outcome_of(check, settings=None, **fields):
    law = Law(id="X1", group="x", check=check, **fields)
    (outcome,) = anyio.run(lambda: run_laws("reference", [law], settings=settings))
    return outcome


async def keeps(bench: Bench) -> None:
    await bench.driver.survey()


async def misses(bench: Bench) -> None:
    bench.need(None, "a moon")


async def misses_beside_others(bench: Bench) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(misses, bench)
        tasks.start_soon(anyio.sleep_forever)


async def breaks(bench: Bench) -> None:
    raise AssertionError("the promise")


async def stumbles(bench: Bench) -> None:
    raise KeyError("oops")


async def hangs(bench: Bench) -> None:
    await anyio.sleep_forever()


async def leaves(bench: Bench) -> None:
    (bench.root / "state" / "left").touch()


def test_each_verdict_says_what_it_must() -> None:
    assert outcome_of(keeps).verdict == Passed()
    assert outcome_of(misses).verdict == Environment(missing="a moon")
    assert outcome_of(misses_beside_others).verdict == Environment(missing="a moon")
    assert outcome_of(breaks).verdict == Failed(message="the promise")
    assert outcome_of(stumbles).verdict == Failed(message="KeyError: 'oops'")
    assert outcome_of(hangs, seconds=0.2).verdict == Failed(message="was not done within 0.2 s")
    assert outcome_of(leaves).verdict == Failed(leaks=("file state/left",))


def test_a_law_is_given_more_time_by_who_is_patient() -> None:
    outcome = outcome_of(hangs, Settings(patience=3), seconds=0.1)
    assert outcome.verdict == Failed(message="was not done within 0.3 s")


def faulty_removal(fault: dict[str, object]) -> dict[str, object]:
    return {"wraps": {"type": "reference"}, "faults": [{"at": "remove.before", **fault}]}


def test_what_a_law_has_made_is_removed_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longshore_core.testing.bench.TIDY_SECONDS", 3.0)
    laws = [law for law in DRIVER_LAWS if law.id == "F4"]
    settings = Settings(image="example/image:1")
    options = faulty_removal({"do": "delay", "seconds": 0.2})  # of each of 40
    [outcome] = anyio.run(lambda: run_laws("faulty", laws, options=options, settings=settings))
    assert isinstance(outcome.verdict, Passed)


def test_a_driver_that_does_not_remove_what_a_law_has_made_fails_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("longshore_core.testing.bench.TIDY_SECONDS", 0.1)
    laws = [law for law in DRIVER_LAWS if law.id == "F5"]
    settings = Settings(image="example/image:1")
    options = faulty_removal({"do": "hang"})
    [outcome] = anyio.run(lambda: run_laws("faulty", laws, options=options, settings=settings))
    assert isinstance(outcome.verdict, Failed)
    assert "could not be removed in time" in outcome.verdict.reason


def test_what_a_driver_does_not_declare_is_not_asked_of_it() -> None:
    law = next(law for law in DRIVER_LAWS if law.id == "M1")
    (outcome,) = anyio.run(lambda: run_laws("reference", [law]))
    assert outcome.verdict == NotDeclared(reason="does not declare limits.memory")


def test_missing_is_no_failure_of_the_driver() -> None:
    assert not issubclass(Missing, AssertionError)


@pytest.mark.parametrize("kind", sorted(LAWS))
def test_every_law_has_an_id_of_its_own_and_says_what_it_promises(kind: str) -> None:
    ids = [law.id for law in LAWS[kind]]
    assert len(ids) == len(set(ids))
    for law in LAWS[kind]:
        assert len(law.promise.split()) >= 3, law.id
        assert law.profiles, law.id


def test_there_are_laws_of_every_group_of_the_catalogue() -> None:
    groups = {law.group for law in DRIVER_LAWS}
    wanted = {"info", "finger", "life", "recover", "exec", "files", "limits", "iso", "ttl", "net"}
    assert groups >= wanted
    assert len(DRIVER_LAWS) >= 60


def test_the_laws_need_no_pytest() -> None:
    program = (
        "import sys; sys.modules['pytest'] = None\n"
        "import longshore_core.testing as t; print(len(t.DRIVER_LAWS))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == ""
    assert int(done.stdout) >= 60


def test_a_report_survives_being_written_and_read() -> None:
    outcomes = anyio.run(
        lambda: run_laws("null", [law for law in DRIVER_LAWS if law.group == "info"])
    )
    report = report_of(find_subject("null"), Profile.CORE, [line_of(each) for each in outcomes])
    assert from_json(to_json(report)) == report
    assert "| info | 9 of 9 |" in matrix([report])
    broken = replace(report, lines=(replace(report.lines[0], verdict="failed"),))
    assert broken.conforms == "does not conform: null (longshore-core 0.1.0) fails I1"
    assert "**1 failed**" in matrix([broken])


def test_only_a_run_over_the_whole_profile_signs_off() -> None:
    core = in_profile(DRIVER_LAWS, Profile.CORE)
    lines = [Line(id=law.id, group="life", name=law.name, verdict="passed") for law in core]
    whole = report_of(find_subject("null"), Profile.CORE, lines)
    assert whole.conforms == "conforms: null (longshore-core 0.1.0), kit 1.0, core: life"
    cut = report_of(find_subject("null"), Profile.CORE, lines[:-2])
    assert cut.unexamined == (core[-2].id, core[-1].id)
    assert cut.conforms == (
        "examined in part: null (longshore-core 0.1.0), kit 1.0, core: "
        f"{len(core) - 2} of {len(core)} laws"
    )


def test_what_nobody_knows_is_said_in_the_line_to_sign_off_with() -> None:
    core = in_profile(DRIVER_LAWS, Profile.CORE)
    lines = [Line(id=law.id, group="life", name=law.name, verdict="passed") for law in core]
    lines[0] = replace(lines[0], verdict="environment")
    whole = report_of(find_subject("null"), Profile.CORE, lines)
    assert whole.conforms.endswith(", core: life, 1 unknown")
    cut = report_of(find_subject("null"), Profile.CORE, lines[:1])
    assert cut.conforms.endswith(f", core: 1 of {len(core)} laws, 1 unknown")


def test_there_are_golden_handles_of_each_driver_and_of_this_release() -> None:
    files = sorted(Path(next(iter(golden_handles.__path__))).glob("*/*.json"))
    for file in files:
        kept = json.loads(file.read_text())
        assert kept["driver"] == file.parent.name
        assert kept["release"] == file.stem
    for name in ("fork_exec", "docker", "podman", "null", "reference"):
        assert __version__ in {file.stem for file in files if file.parent.name == name}


def test_the_table_of_drivers_is_what_the_reports_say() -> None:
    command = [sys.executable, str(ROOT / "docs" / "drivers.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_law_is_a_stub() -> None:
    """A law that can only pass is none: each calls for something that can fail."""
    folder = ROOT / "core" / "src" / "longshore_core" / "testing" / "laws"
    for module in folder.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.AsyncFunctionDef) and node.decorator_list:
                calls = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
                assert len(calls) >= 1, f"{module.name}: {node.name}"
