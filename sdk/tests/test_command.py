"""The `longshore` command, run as people run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from longshore._sandboxes.group import COMMANDS, sandbox


def longshore(*words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    program = "import sys; sys.path[:0] = [p for p in sys.argv[1:2] if p]; del sys.argv[1:2]\n"
    program += "from longshore._cli import main\n"
    program += "status = main()\n"
    program += "print('imported:', *sorted({name.partition('.')[0] for name in sys.modules}))\n"
    program += "sys.exit(status)"
    return subprocess.run(
        [sys.executable, "-c", program, str(path or ""), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def imported(done: subprocess.CompletedProcess[str]) -> set[str]:
    return set(done.stdout.rpartition("imported: ")[2].split())


def distribution(folder: Path, name: str, *, entry: str, summary: str = "") -> None:
    """As if a distribution with one command had been installed into `folder`."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    described = f"Summary: {summary}\n" if summary else ""
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{described}"
    )
    (info / "entry_points.txt").write_text(f"[longshore.commands]\n{entry}\n")


def test_the_version_is_told_without_importing_click() -> None:
    done = longshore("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("longshore 0.")
    assert not imported(done) & {"click", "anyio", "importlib.metadata"}


def test_help_names_every_command_and_imports_none() -> None:
    done = longshore("--help")
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in ("up", "worker", "proxy", "server"))
    assert not imported(done) & {"grpc", "longshore_core", "longshore_server", "pydantic", "anyio"}


def test_a_third_partys_command_appears_with_its_distributions_summary(tmp_path: Path) -> None:
    distribution(tmp_path, "acme-console", entry="console = acme:it", summary="A web console.")
    assert "console  A web console. (acme-console 1.0)" in longshore("--help", path=tmp_path).stdout


def test_a_third_partys_command_runs_and_its_status_is_ours(tmp_path: Path) -> None:
    distribution(tmp_path, "acme-console", entry="console = acme:console")
    source = (
        "import click\n@click.command()\n@click.pass_context\ndef console(ctx):\n    ctx.exit(7)\n"
    )
    (tmp_path / "acme.py").write_text(source)
    assert longshore("console", path=tmp_path).returncode == 7


def test_a_misspelt_command_gets_a_suggestion() -> None:
    done = longshore("wroker")
    assert done.returncode == 2
    assert done.stderr == "error: no command named 'wroker'; did you mean 'worker'?\n"


def test_a_name_that_two_distributions_claim_is_refused_and_both_are_named(tmp_path: Path) -> None:
    distribution(tmp_path, "acme-console", entry="console = acme:it")
    distribution(tmp_path, "other-console", entry="console = other:it")
    done = longshore("console", path=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "error: console: claimed by both acme-console 1.0 and other-console 1.0;"
        " uninstall one of them\n"
    )
    assert "claimed by several distributions" in longshore("--help", path=tmp_path).stdout


def test_a_command_that_cannot_be_imported_names_its_distribution(tmp_path: Path) -> None:
    distribution(tmp_path, "acme-console", entry="console = acme:it")
    (tmp_path / "acme.py").write_text("import no_such_thing\n")
    done = longshore("console", path=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "error: console: cannot import acme:it of acme-console 1.0:"
        " No module named 'no_such_thing'\n"
    )


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        ("core.ConfigError('driver.type', 'no such thing')", 2, "driver.type: no such thing"),
        ("core.PluginLoadError('docker', 'cannot import')", 2, "plugin docker: cannot import"),
        ("core.EngineUnavailable('the engine is away')", 1, "the engine is away"),
        ("ExceptionGroup('', [core.ConfigError('a', 'b')])", 2, "a: b"),
        (
            "ExceptionGroup('', [ExceptionGroup('', [core.ImageError('c')]),"
            " core.ConfigError('', 'd')])",
            2,
            "c\nerror: d",
        ),
    ],
)
def test_an_error_of_ours_is_one_line(tmp_path: Path, raised: str, status: int, said: str) -> None:
    distribution(tmp_path, "acme-console", entry="console = acme:console")
    source = "import click\nimport longshore_core as core\n"
    source += f"@click.command()\ndef console():\n    raise {raised}\n"
    (tmp_path / "acme.py").write_text(source)
    done = longshore("console", path=tmp_path)
    assert done.returncode == status
    assert done.stderr == f"error: {said}\n"


def test_a_third_partys_command_that_breaks_while_it_loads_is_one_line(tmp_path: Path) -> None:
    distribution(tmp_path, "acme-console", entry="console = acme:console")
    (tmp_path / "acme.py").write_text("raise RuntimeError('bang')\n")
    done = longshore("console", path=tmp_path)
    assert done.returncode == 2
    where = "acme:console of acme-console 1.0"
    assert done.stderr == f"error: console: cannot import {where}: RuntimeError: bang\n"


def test_an_interrupted_command_is_quiet(tmp_path: Path) -> None:
    distribution(tmp_path, "acme-console", entry="console = acme:console")
    source = "import click\n@click.command()\ndef console():\n    raise KeyboardInterrupt\n"
    (tmp_path / "acme.py").write_text(source)
    done = longshore("console", path=tmp_path)
    assert (done.returncode, done.stderr.strip()) == (130, "")


def test_a_command_interrupted_while_it_loads_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    done = longshore("up", path=tmp_path)
    assert (done.returncode, done.stderr.strip()) == (130, "")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_what_the_shell_has_closed_is_not_missed(tmp_path: Path, number: int) -> None:
    distribution(tmp_path, "acme-console", entry="console = acme:console")
    source = "import click, os, sys\n@click.command()\ndef console():\n"
    source += f"    assert os.fstat({number}).st_rdev == os.stat('/dev/null').st_rdev\n"
    source += "    assert None not in (sys.stdin, sys.stdout, sys.stderr)\n    click.echo('x')\n"
    (tmp_path / "acme.py").write_text(source)
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
    program += "from longshore._cli import main; sys.exit(main(['console']))"
    shell = f'exec "$0" -c "$1" {number}>&-'
    done = subprocess.run(
        ["sh", "-c", shell, sys.executable, program], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    distribution(tmp_path, "acme-console", entry="console = acme:console")
    source = "import click, sys\n@click.command()\ndef console():\n    sys.stdout.write('x')\n"
    (tmp_path / "acme.py").write_text(source)
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
    program += "from longshore._cli import main; sys.exit(main(['console']))"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == b"error: cannot write to standard output: No space left on device\n"


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    distribution(tmp_path, "acme-console", entry="console = acme:console")
    source = "import click\n@click.command()\ndef console():\n"
    source += "    [click.echo('x' * 1000) for _ in range(1000)]\n"
    (tmp_path / "acme.py").write_text(source)
    command = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from longshore._cli import main; "
    )
    command += "sys.argv[1:] = ['console']; sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_for_sandboxes_says_the_same_of_itself_and_gives_examples(name: str) -> None:
    command = sandbox.get_command(click.Context(sandbox), name)
    assert command is not None
    assert command.help is not None
    assert command.help.splitlines()[0] == COMMANDS[name]
    examples = command.help.partition("Examples:\n")[2].splitlines()
    assert len([line for line in examples if f"longshore sandbox {name}" in line]) >= 2


def test_help_for_sandboxes_names_every_command_and_imports_none() -> None:
    done = longshore("sandbox", "--help")
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    assert not imported(done) & {"httpx", "websockets", "anyio"}


def test_a_misspelt_command_for_sandboxes_gets_a_suggestion() -> None:
    done = longshore("sandbox", "exce")
    assert (done.returncode, done.stderr) == (
        2,
        "error: no command named 'exce'; did you mean 'exec'?\n",
    )


def test_a_wrong_option_is_one_line_that_leads_to_help() -> None:
    done = longshore("sandbox", "ls", "--nope")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no such option '--nope'")
    assert done.stderr.endswith("; see `longshore sandbox ls --help`\n")
    assert done.stderr.count("\n") == 1


def test_python_dash_m_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "longshore", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("longshore 0.")
