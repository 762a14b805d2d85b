"""`python -m longshore`: the `longshore` command of this interpreter."""

from __future__ import annotations

import sys

from longshore._cli import main

if __name__ == "__main__":
    sys.exit(main())
