"""What the daemon imports, found out by letting this interpreter import it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from longshore_core import BackendError

_DEADLINE_SECONDS: Final = 30.0
_PROBE: Final = """
import sys, types
sys.path.append(sys.argv[1])
package = types.ModuleType("longshore_daemon")
package.__path__ = [sys.argv[1]]
sys.modules["longshore_daemon"] = package
import encodings.ascii, encodings.latin_1
import os, importlib
for file in os.listdir(sys.argv[1] + "/inside"):
    name = file.partition(".")[0]
    # What the daemon imports at the start, and what it imports later.
    if name.isidentifier() and name not in ("__init__", "__pycache__", "start"):
        importlib.import_module("longshore_daemon.inside." + name)
modules = {
    name: module.__spec__.origin
    for name, module in list(sys.modules.items())
    if getattr(getattr(module, "__spec__", None), "has_location", False)
}
with open("/proc/self/maps") as maps:
    mapped = {line.split(maxsplit=5)[5].strip() for line in maps if line.count("/")}
import json
print(json.dumps({"modules": modules, "mapped": sorted(mapped)}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imports:
    """Modules by name with the files that they come from, and the shared objects in memory."""

    modules: dict[str, Path]
    mapped: tuple[Path, ...]


def discover(package: Path) -> Imports:
    """Import the daemon in a fresh interpreter, as bare as it will run. Raises BackendError."""
    path = os.environ.get("LD_LIBRARY_PATH")
    env = {"LC_ALL": "C"} | ({"LD_LIBRARY_PATH": path} if path else {})
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", _PROBE, str(package)],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_DEADLINE_SECONDS,
            check=True,
        )
        found = json.loads(done.stdout)
    except subprocess.CalledProcessError as exc:
        raise BackendError(f"the interpreter cannot run the daemon: {exc.stderr!r}") from exc
    except (OSError, subprocess.TimeoutExpired, ValueError) as exc:
        raise BackendError(f"the interpreter {sys.executable} cannot be examined: {exc}") from exc
    return Imports(
        modules={name: Path(origin) for name, origin in found["modules"].items()},
        mapped=tuple(Path(path) for path in found["mapped"]),
    )
