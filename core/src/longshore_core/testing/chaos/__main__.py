"""`python -m longshore_core.testing.chaos`: by hand, and to repeat a run that failed."""

from __future__ import annotations

import json
import sys
from typing import Any, cast

import anyio
import click

from longshore_core._errors import LongshoreError
from longshore_core.testing.chaos import ChaosResult, chaos_runs


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise click.BadParameter(f"{text!r} is no JSON: {exc}", param_hint="--config") from exc
    if not isinstance(value, dict):
        raise click.BadParameter(f"{text!r} is no JSON object", param_hint="--config")
    return cast("dict[str, Any]", value)


@click.command()
@click.option("--driver", default="fork_exec", show_default=True, help="A name, or pkg:Thing.")
@click.option("--config", default="{}", help="The driver's own keys, as JSON.")
@click.option("--seed", type=int, help="This one only.")
@click.option("--runs", type=int, default=300, show_default=True, help="Seeds from 1 on.")
@click.option("--backend", default="asyncio", type=click.Choice(["asyncio", "trio"]))
def main(driver: str, config: str, seed: int | None, runs: int, backend: str) -> None:
    """Break a driver at random, and see whether the worker copes."""
    options = _object(config)
    seeds = range(1, runs + 1) if seed is None else [seed]

    def tell(result: ChaosResult) -> None:
        if result.problems or seed is not None:
            click.echo(str(result))

    async def run() -> list[ChaosResult]:
        return await chaos_runs(driver, seeds, options=options, tell=tell)

    try:
        results = anyio.run(run, backend=backend)
    except LongshoreError as exc:
        raise click.ClickException(str(exc)) from exc
    failed = sum(bool(result.problems) for result in results)
    seconds = sum(result.seconds for result in results)
    click.echo(
        f"{len(results)} runs in {seconds:.1f} s: {failed} failed;"
        f" {sum(item.lives for item in results)} lives,"
        f" {sum(item.workers for item in results)} workers,"
        f" {sum(item.struck for item in results)} faults"
    )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
