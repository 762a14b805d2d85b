"""The catalogue of codes, held to what the sources answer with."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from longshore_core._codes import CATALOGUE, OF_THE_SDK

ROOT = Path(__file__).resolve().parents[2]
DAEMON = ROOT / "plugins/sandbox_daemon/src/longshore_daemon/inside"
SDK = ROOT / "sdk/src/longshore"
SOURCES = [path for path in ROOT.glob("*/src") if path.is_dir()] + [*ROOT.glob("plugins/*/src")]
CODE = re.compile(r"[A-Z]+(_[A-Z]+)+|TIMEOUT|STOPPING")
NO_CODES = re.compile(r"(LONGSHORE|TENSORLAKE|INDEXIFY|NO|HTTP)_.*")
"""Names of variables, and the beginning of `HTTP_502` and its like."""


def nodes(*roots: Path) -> Iterator[ast.AST]:
    for root in roots:
        for file in sorted(root.rglob("*.py")):
            if file.name != "_codes.py":
                yield from ast.walk(ast.parse(file.read_text(encoding="utf-8")))


@cache
def literals(*roots: Path) -> set[str]:
    """What looks like a code, wherever it stands."""
    return {
        node.value
        for node in nodes(*roots)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and CODE.fullmatch(node.value)
    }


def answered(*roots: Path) -> set[tuple[int, str]]:
    """Statuses with the codes behind them: `ApiError(404, "NOT_FOUND", …)`, or in a table."""
    found = set[tuple[int, str]]()
    for node in nodes(*roots):
        parts = node.args if isinstance(node, ast.Call) else []
        parts = node.elts if isinstance(node, ast.Tuple) else parts
        for status, code in pairwise(parts):
            match status, code:
                case ast.Constant(value=int(number)), ast.Constant(value=str(text)):
                    if 400 <= number < 600 and CODE.fullmatch(text):
                        found.add((number, text))
                case _:
                    continue
    return found


def test_the_daemon_answers_what_the_list_says() -> None:
    found = answered(DAEMON)
    assert len(found) > 25
    listed = {(one.status, code) for code, one in CATALOGUE.items()}
    assert sorted(found - listed) == []


def test_the_sdk_raises_and_looks_for_what_is_in_the_lists() -> None:
    found = {code for code in literals(SDK) if not NO_CODES.fullmatch(code)}
    assert len(found) > 25
    assert sorted(found - {*CATALOGUE, *OF_THE_SDK}) == []


@pytest.mark.parametrize("code", sorted({*CATALOGUE, *OF_THE_SDK}))
def test_every_code_of_the_lists_is_in_use(code: str) -> None:
    assert code in literals(*SOURCES) or not CODE.fullmatch(code)
