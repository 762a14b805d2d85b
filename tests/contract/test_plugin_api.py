"""The plugin API, kept as a text: a change of it is seen, and decided, before it is made.

`LONGSHORE_SNAPSHOTS=write make test ARGS=tests/contract` writes the text again.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

from longshore_core import PLUGIN_API, abc
from longshore_core.hookspecs import LongshoreSpecs

SNAPSHOT = Path(__file__).with_name("hooks.txt")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "plugins.md"


def described() -> Iterator[str]:
    yield f"plugin API {PLUGIN_API[0]}.{PLUGIN_API[1]}"
    yield "\nhooks"
    for name, hook in vars(LongshoreSpecs).items():
        if name.startswith("longshore_"):
            yield f"  {name}{inspect.signature(hook)}"
    for thing in sorted(vars(abc).values(), key=lambda item: getattr(item, "__name__", "")):
        if not inspect.isclass(thing) or not thing.__module__.startswith("longshore_core"):
            continue
        if thing.__module__ not in (abc.__name__, "longshore_core._heads"):
            continue
        yield f"\n{thing.__name__}"
        if is_dataclass(thing):
            yield from (f"  {item.name}: {item.type}" for item in fields(thing))
        for name, member in vars(thing).items():
            if inspect.isfunction(member) and not name.startswith("_"):
                word = "async def" if inspect.iscoroutinefunction(member) else "def"
                yield f"  {word} {name}{inspect.signature(member)}"


def test_hooks_and_seams_are_what_plugins_were_written_against() -> None:
    text = "\n".join(described()) + "\n"
    if os.environ.get("LONGSHORE_SNAPSHOTS") == "write":
        SNAPSHOT.write_text(text, encoding="utf-8")
    assert text == SNAPSHOT.read_text(encoding="utf-8")


def test_the_page_of_plugins_has_every_hook_and_method_with_its_signature() -> None:
    page = PAGE.read_text(encoding="utf-8")
    lines = [line.strip().replace("'", "") for line in described() if line.startswith("  ")]
    signatures = [
        line if line.startswith(("def ", "async def ")) else f"def {line}"
        for line in lines
        if "(self" in line and not line.startswith(("def _", "async def _"))
    ]
    assert len(signatures) > 30
    assert [signature for signature in signatures if f"`{signature}`" not in page] == []


def test_hooks_are_synchronous_and_take_no_keyword_only_arguments() -> None:
    for name, hook in vars(LongshoreSpecs).items():
        if name.startswith("longshore_"):
            kinds = {item.kind for item in inspect.signature(hook).parameters.values()}
            assert kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD}
            assert not inspect.iscoroutinefunction(hook)
            assert inspect.getdoc(hook)
