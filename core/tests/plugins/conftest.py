from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

Install = Callable[..., None]

METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a distribution with one entry point on the path, as an installer would."""

    def install(
        distribution: str, group: str, name: str, source: str, version: str = "1.0"
    ) -> None:
        site = tmp_path / f"site-{distribution}"
        module = distribution.replace("-", "_")
        info = site / f"{module}-{version}.dist-info"
        info.mkdir(parents=True)
        metadata = METADATA.format(name=distribution, version=version)
        (info / "METADATA").write_text(metadata, encoding="utf-8")
        entry = f"[{group}]\n{name} = {module}.plugin\n"
        (info / "entry_points.txt").write_text(entry, encoding="utf-8")
        (site / module).mkdir()
        (site / module / "__init__.py").touch()
        (site / module / "plugin.py").write_text(textwrap.dedent(source), encoding="utf-8")
        monkeypatch.syspath_prepend(str(site))
        for loaded in (module, f"{module}.plugin"):
            monkeypatch.delitem(sys.modules, loaded, raising=False)

    return install
