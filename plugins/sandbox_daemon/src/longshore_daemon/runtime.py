"""The portable runtime: this interpreter, in a directory that can be mounted into any image.

    lib/               the dynamic loader, and every shared library that is needed
    lib/python3.X/     the modules that the daemon imports, compiled, and the daemon itself
    bin/python3        the interpreter
    daemon/start.pyc   what it is started with

Images decide over environment and files in a container, and must not get code into its PID 1. So
the loader's copy does not know `/etc/ld.so.preload`, and no library brings a search path along.
The rest is in how it is started: `longshore_daemon.guest` sees to that.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import marshal
import os
import platform
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from longshore_core import BackendError

from longshore_daemon.elf import ELF, NotELF
from longshore_daemon.imports import Imports, discover

_FORMAT: Final = 1
"""Of the directory: part of its digest."""
_PACKAGE: Final = Path(__file__).parent
_PRELOAD: Final = b"/etc/ld.so.preload\0"
_MANIFEST: Final = "manifest"
_UNFINISHED: Final = ".assembling-"
_STALE_SECONDS: Final = 3600.0
_UNCHECKED_HASH: Final = (1).to_bytes(4, "little") + bytes(8)


@dataclass(frozen=True, slots=True, kw_only=True)
class PortableRuntime:
    """An assembled one. Nothing in it changes for as long as any container may run it."""

    path: Path
    digest: str
    loader: str
    """The name of the dynamic loader."""

    def argv(self, root: str) -> tuple[str, ...]:
        """How PID 1 is started where the runtime is seen at `root`."""
        return (
            f"{root}/lib/{self.loader}",
            "--inhibit-cache",
            "--library-path",
            f"{root}/lib",
            f"{root}/bin/python3",
            *("-I", "-S", "-X", "utf8"),
            f"{root}/daemon/start.pyc",
        )


def assemble(runtimes: Path) -> PortableRuntime:
    """Make the runtime of this interpreter under `runtimes`, or find it made.

    Blocks: a second at most for the first time, milliseconds from then on. Any number may try at
    once: each works apart, the first to finish wins, and its work appears whole. Raises
    BackendError when this interpreter cannot be taken elsewhere.
    """
    try:
        python = Path(sys.executable).resolve(strict=True)
        loader = ELF(python.read_bytes()).interpreter
        if loader is None:
            raise BackendError(f"{python} is linked statically: it cannot be taken apart")
        digest = _digest(python, Path(loader))
        runtime = PortableRuntime(path=runtimes / digest, digest=digest, loader=Path(loader).name)
        if not _is_whole(runtime.path):
            runtimes.mkdir(parents=True, exist_ok=True)
            _sweep(runtimes)
            _make(runtime, python, Path(loader))
    except (OSError, NotELF, SyntaxError) as exc:
        raise BackendError(f"the portable runtime cannot be assembled: {exc}") from exc
    return runtime


def _digest(python: Path, loader: Path) -> str:
    """Of all that the content follows from: large files by identity, our own by content."""
    text = hashlib.sha256(f"{_FORMAT} {platform.machine()} {sys.version}".encode())
    library = Path(
        sysconfig.get_config_var("LIBDIR") or "", sysconfig.get_config_var("INSTSONAME") or ""
    )
    for path in (python, loader.resolve(), library, _stdlib() / "os.py"):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            text.update(f"{path} {status.st_size} {status.st_mtime_ns} {status.st_ino}".encode())
    for path in sorted((*_PACKAGE.glob("*.py"), *_PACKAGE.glob("inside/*.py"))):
        text.update(path.name.encode() + b"\0" + path.read_bytes())
    return text.hexdigest()[:32]


def _stdlib() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _is_whole(path: Path) -> bool:
    """Whether all is there in its full length, as it may not be after the power went."""
    try:
        lines = (path / _MANIFEST).read_text().splitlines()
        sizes = [line.split(" ", 1) for line in lines]
        return bool(sizes) and all(
            (path / name).stat().st_size == int(size) for size, name in sizes
        )
    except (OSError, ValueError):
        return False


def _sweep(runtimes: Path) -> None:
    """Remove what was begun and never finished."""
    for path in runtimes.glob(f"{_UNFINISHED}*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - _STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def _make(runtime: PortableRuntime, python: Path, loader: Path) -> None:
    imports = discover(_PACKAGE)
    building = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=runtime.path.parent))
    try:
        _fill(building, imports, python, loader)
        building.chmod(0o755)
        _publish(building, runtime.path)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _publish(building: Path, path: Path) -> None:
    try:
        building.rename(path)
    except OSError:
        if _is_whole(path):
            return
        # What is there is of no use to anybody: out of the way, then.
        path.rename(building / "broken")
        (building / "broken").rename(path.parent / f"{_UNFINISHED}{building.name}")
        building.rename(path)


def _fill(root: Path, imports: Imports, python: Path, loader: Path) -> None:
    version = f"{sys.platlibdir}/{_stdlib().name}"
    for directory in ("lib", "bin", "daemon", f"{version}/lib-dynload"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    _copy_program(python, root / "bin/python3")
    _copy_loader(loader, root / "lib" / loader.name)
    extensions = {path.resolve() for path in imports.modules.values()}
    for path in imports.mapped:
        if path.resolve() not in (*extensions, python, loader.resolve()):
            _copy_library(path, root / "lib")
    for name, path in imports.modules.items():
        if path.suffix == ".so":
            _copy_program(path, root / version / "lib-dynload" / path.name)
        else:
            _compile(name, path, root / version)
    # The kernel's side imports of the package are nothing for PID 1.
    _write_code("", root / version / "longshore_daemon/__init__.pyc", "longshore_daemon")
    start = _PACKAGE / "inside/start.py"
    _write_code(start.read_text(), root / "daemon/start.pyc", "start")
    # By this file the interpreter knows its library; the module itself is frozen into it.
    (root / version / "os.pyc").touch()
    _write_manifest(root)


def _copy_program(source: Path, target: Path) -> None:
    elf = ELF(source.read_bytes())
    elf.forget_search_path()
    target.write_bytes(elf.data)
    target.chmod(0o755)


def _copy_library(source: Path, directory: Path) -> None:
    """Under the name by which others ask for it. What is mapped and no library is left out."""
    try:
        elf = ELF(source.read_bytes())
    except NotELF:
        return
    if elf.soname is not None:
        _copy_program(source, directory / elf.soname)


def _copy_loader(source: Path, target: Path) -> None:
    data = source.read_bytes()
    if data.count(_PRELOAD) != 1:
        raise BackendError(f"{source} is not the loader of glibc: it cannot be made safe")
    target.write_bytes(data.replace(_PRELOAD, bytes(len(_PRELOAD))))
    target.chmod(0o755)


def _compile(name: str, source: Path, directory: Path) -> None:
    path = Path(*name.split("."))
    if source.name == "__init__.py":
        path /= "__init__"
    _write_code(source.read_text(encoding="utf-8"), directory / f"{path}.pyc", name)


def _write_code(source: str, target: Path, name: str) -> None:
    """Without docstrings and assertions, and valid whatever becomes of the source."""
    code = compile(source, f"<{name}>", "exec", dont_inherit=True, optimize=2)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH + marshal.dumps(code))


def _write_manifest(root: Path) -> None:
    lines = [f"{path.stat().st_size} {path.relative_to(root)}\n" for path in _files(root)]
    (root / _MANIFEST).write_text("".join(lines))


def _files(root: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(root):
        for name in names:
            yield Path(directory, name)
