"""What the `longshore` command promises of the distributions that stand behind it."""

from __future__ import annotations

import subprocess
import sys

from longshore._group import GROUP, KNOWN

from tests.contract.test_repository import distributions


def loaded_after(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has imported after a statement."""
    program = (
        f"{statement}\nimport sys\nprint(*sorted({{n.partition('.')[0] for n in sys.modules}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_help_imports_no_application() -> None:
    statement = "from longshore._cli import main; main(['--help'])"
    assert not loaded_after(statement) & {"grpc", "longshore_server", "longshore_core", "httpx"}


def test_the_sdk_imports_neither_the_kernel_nor_grpc() -> None:
    statement = "import longshore, longshore._up, longshore._group, longshore._cli"
    assert not loaded_after(statement) & {"grpc", "longshore_server", "longshore_core"}


def test_every_command_of_ours_is_known_to_help() -> None:
    projects = distributions().values()
    offered = {name for item in projects for name in item.get("entry-points", {}).get(GROUP, {})}
    assert offered == set(KNOWN)


def test_every_extra_that_a_hint_names_exists() -> None:
    extras = distributions()["longshore"]["optional-dependencies"]
    assert {known.extra for known in KNOWN.values() if known.extra} <= set(extras)
