"""Run a program in a sandbox from Python, against a system that is up (`make run`).

The data goes in, the program's output comes as it is written, its report comes out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from longshore import CommandError, Sandbox, SandboxError

HERE = Path(__file__).parent


def main() -> int:
    try:
        with Sandbox.create(cpus=1, memory_mb=512) as sandbox:
            sandbox.files.upload(HERE / "sales.py", "sales.py")
            sandbox.files.upload(HERE / "sales.csv", "sales.csv")
            command = ["python3", "-u", "sales.py", "sales.csv", "report.json"]
            with sandbox.start(command, timeout=60) as process:
                for chunk in process:
                    sys.stdout.write(chunk.text)
                process.result().check()
            report = json.loads(sandbox.files.read("report.json"))
    except CommandError as exc:
        print(f"the program failed: {exc}", file=sys.stderr)
        return 1
    except SandboxError as exc:
        print(f"no sandbox, or not for long enough: {exc}", file=sys.stderr)
        return 1
    print(f"{report['orders']} orders, {report['revenue_cents'] / 100:,.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
