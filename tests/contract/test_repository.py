"""What holds of the repository as a whole."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = [
    file
    for file in sorted(ROOT.glob("**/pyproject.toml"))
    if not {".venv", "examples"} & set(file.relative_to(ROOT).parts)
]
"""Of what we release, and of the root."""
LINE_LIMIT = 400


@cache
def tracked() -> tuple[Path, ...]:
    """Every file that git keeps."""
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file())


def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def distributions() -> dict[str, dict[str, Any]]:
    loaded = [tomllib.loads(text_of(file)) for file in PROJECTS]
    return {item["project"]["name"]: item["project"] for item in loaded if "project" in item}


@pytest.mark.parametrize("name", ["installer", "runtime", "dev"])
def test_constraints_name_no_address(name: str) -> None:
    assert "://" not in text_of(ROOT / "constraints" / f"{name}.txt")


def test_what_is_needed_to_run_is_pinned_alike_for_development() -> None:
    def pins(name: str) -> set[str]:
        lines = text_of(ROOT / "constraints" / f"{name}.txt").splitlines()
        return {line.split()[0] for line in lines if line[:1].isalnum()}

    assert pins("runtime") | pins("installer") <= pins("dev")


def test_all_distributions_have_one_version() -> None:
    assert len({project["version"] for project in distributions().values()}) == 1


@pytest.mark.parametrize(
    ("module", "distribution"),
    [("sdk/src/longshore", "longshore"), ("core/src/longshore_core", "longshore-core")],
)
def test_a_package_says_the_version_of_its_distribution(module: str, distribution: str) -> None:
    version = distributions()[distribution]["version"]
    assert f'__version__ = "{version}"' in text_of(ROOT / module / "__init__.py")


def test_every_distribution_is_installed_by_make() -> None:
    line = next(line for line in text_of(ROOT / "Makefile").splitlines() if line[:5] == "DISTS")
    folders = {str(file.parent.relative_to(ROOT)) for file in PROJECTS}
    assert set(line.partition(":=")[2].split()) == folders - {"."}


def test_no_file_knows_a_path_of_somebodys_machine() -> None:
    # A short one, as of a container that has the checkout in /app, would be found everywhere.
    places = [f"{place}/" for place in (ROOT, Path.home()) if place.parts[2:]]
    found = [
        f"{file.relative_to(ROOT)}: {place}"
        for file in tracked()
        for place in places
        if place in text_of(file)
    ]
    assert found == []


def test_no_module_is_too_long_to_read() -> None:
    modules = [
        file
        for file in tracked()
        if file.suffix == ".py" and "_pb2" not in file.name and "src" in file.parts
    ]
    long = [str(file) for file in modules if len(text_of(file).splitlines()) > LINE_LIMIT]
    assert long == []


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in tracked()
        if page.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)|src=\"([^\"]+)\"", text_of(page))
        for target in [target[0] or target[1]]
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_the_generated_pages_are_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_target_of_make_says_what_it_is_for() -> None:
    makefile = text_of(ROOT / "Makefile")
    targets = next(line for line in makefile.splitlines() if line.startswith(".PHONY")).split()[1:]
    assert [
        name for name in targets if not re.search(rf"^{name}:.*## ", makefile, re.MULTILINE)
    ] == []
