"""A place to install what a test has built."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path


class Environment:
    """A clean virtual environment that sees Longshore and what it needs, and nothing of acme."""

    def __init__(self, directory: Path) -> None:
        venv.create(directory, with_pip=False, symlinks=True)
        self.python = directory / "bin" / "python"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        site = directory / "lib" / version / "site-packages"
        ours = sysconfig.get_paths()["purelib"]
        (site / "longshore.pth").write_text(f"import site; site.addsitedir({ours!r})\n")

    def pip(self, *args: str) -> None:
        command = [sys.executable, "-m", "pip", "--python", str(self.python), *args]
        subprocess.run([*command, "--quiet", "--disable-pip-version-check"], check=True)

    def longshore(self, *args: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.python), "-m", "longshore", *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)
