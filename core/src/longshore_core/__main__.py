"""`python -m longshore_core worker|proxy`: the kernel's processes, without the SDK's command."""

from __future__ import annotations

import click

from longshore_core._commands.proxy import proxy
from longshore_core._commands.worker import worker


@click.group()
def main() -> None:
    """The kernel's own processes."""


main.add_command(worker)
main.add_command(proxy)

if __name__ == "__main__":
    main(prog_name="longshore_core")
