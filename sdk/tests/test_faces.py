"""The blocking face and the awaiting one say and take the same."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import longshore
import pytest

PAIRS = [
    "Sandbox",
    "Process",
    "Output",
    "Files",
    "FileStream",
    "Changes",
    "Terminal",
    "Tunnel",
]
SAME_BUT_FOR_NAMES = {
    "__enter__": "__aenter__",
    "__exit__": "__aexit__",
    "__iter__": "__aiter__",
    "__next__": "__anext__",
    "__init__": "__init__",
}


def members(kind: type[Any]) -> dict[str, Any]:
    """What is public of a class, and how it is entered and iterated."""
    wanted = {*SAME_BUT_FOR_NAMES, *SAME_BUT_FOR_NAMES.values()}
    return {
        name: value
        for name, value in vars(kind).items()
        if not name.startswith("_") or name in wanted
    }


def blocking(annotation: object) -> object:
    """An annotation of the awaiting face, as the blocking one would have it."""
    if not isinstance(annotation, str):
        return annotation
    text = annotation.removeprefix("Opening[").replace("Async", "")
    return text.removesuffix("]") if annotation.startswith("Opening[") else text


def shape(member: Any) -> object:
    if isinstance(member, property):
        member = member.fget
    function = getattr(member, "__func__", member)
    signature = inspect.signature(function)
    parameters = [
        (p.name, p.kind, p.default, blocking(p.annotation)) for p in signature.parameters.values()
    ]
    return parameters, blocking(signature.return_annotation), type(member), function.__doc__


@pytest.mark.parametrize("name", PAIRS)
def test_both_faces_have_the_same_members(name: str) -> None:
    one, other = getattr(longshore, name), getattr(longshore, f"Async{name}")
    assert {SAME_BUT_FOR_NAMES.get(member, member) for member in members(one)} == {*members(other)}


@pytest.mark.parametrize("name", PAIRS)
def test_both_faces_have_the_same_signatures_and_docstrings(name: str) -> None:
    one, other = getattr(longshore, name), getattr(longshore, f"Async{name}")
    assert one.__doc__ == other.__doc__
    for member, value in members(one).items():
        twin = vars(other)[SAME_BUT_FOR_NAMES.get(member, member)]
        assert shape(value) == shape(twin), member


@pytest.mark.parametrize("name", PAIRS)
def test_everything_public_is_described(name: str) -> None:
    kind = getattr(longshore, name)
    plain = {member: value for member, value in members(kind).items() if member[0] != "_"}
    assert kind.__doc__
    assert [member for member, value in plain.items() if not inspect.getdoc(value)] == []


def test_every_public_name_can_be_imported() -> None:
    assert [name for name in longshore.__all__ if not hasattr(longshore, name)] == []
    assert set(longshore.__all__) <= set(dir(longshore))


def test_a_name_that_there_is_not_is_said_to_be_missing() -> None:
    with pytest.raises(AttributeError, match="module 'longshore' has no attribute 'Sandbax'"):
        _ = longshore.Sandbax  # type: ignore[attr-defined]


def test_importing_longshore_imports_no_http_client() -> None:
    program = "import sys, longshore; print(sorted({n.partition('.')[0] for n in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not {"'httpx'", "'anyio'", "'ssl'", "'json'"} & set(
        done.stdout.strip("[]\n").split(", ")
    )


def test_every_type_of_the_public_interface_is_known(tmp_path: Path) -> None:
    # Of a copy, since pyright looks for what is installed, and we are so by a path alone.
    package = Path(longshore.__file__).parent
    shutil.copytree(package, tmp_path / "longshore", ignore=shutil.ignore_patterns("*.pyc"))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--verifytypes", "longshore", "--ignoreexternal"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Type completeness score: 100%" in done.stdout, done.stdout
