"""The documentation of the API as one page that needs nothing from anywhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#1a2b33;background:#fbfaf7}
h2{margin-top:2.5rem;border-bottom:1px solid #ccc} code,pre{font:14px/1.4 ui-monospace,monospace}
pre{background:#eeece6;padding:.8rem;overflow:auto} summary{cursor:pointer;padding:.2rem 0}
b{display:inline-block;width:4.5rem;font:600 13px ui-monospace,monospace;color:#0b6e66}
@media(prefers-color-scheme:dark){body{color:#dfe6e9;background:#14191c}pre{background:#1f272b}}
"""


def render(schema: Mapping[str, Any]) -> str:
    """The page of an OpenAPI document."""
    info = schema["info"]
    models = schema.get("components", {}).get("schemas", {})
    parts = "".join(_operation(*one) for one in _operations(schema["paths"]))
    shapes = "".join(
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        f"<pre>{escape(json.dumps(model, indent=2))}</pre></details>"
        for name, model in sorted(models.items())
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}'
        f'</title><meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        '<p>The same for machines: <a href="/openapi.json">openapi.json</a></p>'
        f"<h2>Routes</h2>{parts}<h2>Shapes</h2>{shapes}</html>"
    )


def _operations(
    paths: Mapping[str, Mapping[str, Any]],
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in paths.items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    told = {
        name: operation[name] for name in ("parameters", "requestBody") if name in operation
    } | {"responses": operation["responses"]}
    return (
        f"<details><summary><b>{escape(method)}</b><code>{escape(path)}</code> "
        f"{escape(operation.get('summary', ''))}</summary>"
        f"<pre>{escape(json.dumps(told, indent=2))}</pre></details>"
    )
