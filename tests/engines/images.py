"""Images for tests, made of this host's files: no registry is asked for anything.

Each is an archive as `docker save` writes it, which `docker load` and `podman load` read. What is
taken from the host lies in the image where it lies on the host.

    python -m tests.engines.images DIRECTORY    writes them all, as NAME.tar
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

PREFIX: Final = "localhost/longshore"
"""A registry that does not exist: an engine that lacks such an image can pull it from nowhere."""

_BUSYBOX: Final = Path("/bin/busybox")
_LEFT_OUT: Final = re.compile(
    r"/(tests?|idlelib|lib2to3|tkinter|turtledemo|pydoc_data|ensurepip|config-[^/]*|"
    r"dist-packages|site-packages|_tkinter[^/]*\.so)(/|$)"
)
_ACCOUNTS: Final = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
    "etc/group": "root:x:0:\nuser:x:1000:\n",
}


class Layer:
    """A root file system in the making."""

    def __init__(self) -> None:
        self._bytes = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._bytes, mode="w")  # noqa: SIM115  # left by `close`
        self._there: set[str] = set()

    def directory(self, path: str, mode: int = 0o755, owner: int = 0) -> None:
        if path in self._there or not path:
            return
        self.directory(os.path.dirname(path))
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, mode, owner, owner
        self._add(entry)

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        entry = tarfile.TarInfo(path)
        entry.size, entry.mode = len(content), mode
        self._add(entry, content)

    def link(self, path: str, target: str) -> None:
        entry = tarfile.TarInfo(path)
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        self._add(entry)

    def copy(self, source: Path) -> None:
        """A file of the host, at its own place; links are followed."""
        mode = 0o755 if os.access(source, os.X_OK) else 0o644
        self.file(str(source).lstrip("/"), source.read_bytes(), mode)

    def close(self) -> bytes:
        self._tar.close()
        return self._bytes.getvalue()

    def _add(self, entry: tarfile.TarInfo, content: bytes = b"") -> None:
        if entry.name not in self._there:
            self.directory(os.path.dirname(entry.name))
            self._there.add(entry.name)
            self._tar.addfile(entry, io.BytesIO(content))


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What an image is made of."""

    name: str
    fill: Callable[[Layer], None]
    user: str = ""
    env: tuple[str, ...] = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
    architecture: str = field(default_factory=lambda: host_architecture())

    @property
    def reference(self) -> str:
        return f"{PREFIX}/{self.name}:latest"

    def archive(self) -> bytes:
        """The same bytes each time, as long as the host's files are the same."""
        layer = Layer()
        self.fill(layer)
        return _archive(self, layer.close())


def host_architecture() -> str:
    """As images have it: the words are Go's."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _archive(image: Image, layer: bytes) -> bytes:
    config = {
        "architecture": image.architecture,
        "os": "linux",
        "config": {"User": image.user, "Env": list(image.env)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created_by": "longshore's tests"}],
    }
    content = json.dumps(config).encode()
    name = f"{hashlib.sha256(content).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [image.reference], "Layers": ["layer.tar"]}]
    whole = Layer()
    whole.file(name, content)
    whole.file("layer.tar", layer)
    whole.file("manifest.json", json.dumps(manifest).encode())
    return whole.close()


# What is in them.


def _nothing(_layer: Layer) -> None:
    pass


def _only_a_program(layer: Layer) -> None:
    """Statically linked, as programs in Go or with musl are; no shell, no library, no account."""
    layer.file("app/busybox", _BUSYBOX.read_bytes(), 0o755)


def _shell(layer: Layer) -> None:
    layer.file("bin/busybox", _BUSYBOX.read_bytes(), 0o755)
    for applet in _applets():
        if applet != "busybox":
            layer.link(f"bin/{applet}", "busybox")
    for path, text in _ACCOUNTS.items():
        layer.file(path, text.encode())
    layer.directory("root", 0o700)
    layer.directory("home/user", owner=1000)
    for path in ("dev", "proc", "sys", "run", "var", "usr/bin"):
        layer.directory(path)
    layer.link("usr/bin/env", "/bin/busybox")


def _busybox(layer: Layer) -> None:
    _shell(layer)
    layer.directory("tmp", 0o1777)


def _base(layer: Layer) -> None:
    _busybox(layer)
    for path in _python():
        layer.copy(path)
    program = _interpreter()
    for name in ("python3", "python"):
        if str(program) != f"/usr/bin/{name}":
            layer.link(f"usr/bin/{name}", str(program))


def _applets() -> list[str]:
    listed = subprocess.run([_BUSYBOX, "--list"], check=True, capture_output=True, text=True)
    return listed.stdout.split()


def _interpreter() -> Path:
    return Path(sys.executable).resolve()


def _python() -> Iterator[Path]:
    """The interpreter, its standard library, and every shared library that these need."""
    library = Path(sysconfig.get_path("stdlib"))
    programs = [_interpreter()]
    for directory, _, names in os.walk(library):
        for path in (Path(directory, name) for name in names):
            if not _LEFT_OUT.search(str(path)[len(str(library)) :]) and path.exists():
                yield path
                if path.suffix == ".so":
                    programs.append(path)
    yield _interpreter()
    yield from _libraries(programs)


def _libraries(programs: Iterable[Path]) -> set[Path]:
    asked = subprocess.run(["ldd", *programs], check=True, capture_output=True, text=True)
    return {Path(path) for path in re.findall(r"(?:=> |^\t)(/\S+)", asked.stdout, re.MULTILINE)}


EMPTY: Final = Image(name="empty", fill=_nothing, env=())
NO_SHELL: Final = Image(name="no-shell", fill=_only_a_program, env=())
NO_TMP: Final = Image(name="no-tmp", fill=_shell)
BUSYBOX: Final = Image(name="busybox", fill=_busybox)
NON_ROOT: Final = Image(name="non-root", fill=_busybox, user="1000:1000")
HOSTILE: Final = Image(
    name="hostile",
    fill=_busybox,
    env=("LD_PRELOAD=/evil.so", "LD_LIBRARY_PATH=/evil", "GLIBC_TUNABLES=glibc.malloc.check=3"),
)
FOREIGN: Final = Image(
    name="foreign",
    fill=_busybox,
    architecture="arm64" if host_architecture() != "arm64" else "amd64",
)
BASE: Final = Image(name="base", fill=_base)
"""busybox and `python3`: what most tests run in."""

IMAGES: Final = (EMPTY, NO_SHELL, NO_TMP, BUSYBOX, NON_ROOT, HOSTILE, FOREIGN, BASE)


@cache
def archive(image: Image) -> bytes:
    """Made once a process."""
    return image.archive()


if __name__ == "__main__":
    for each in IMAGES:
        Path(sys.argv[1], f"{each.name}.tar").write_bytes(each.archive())
