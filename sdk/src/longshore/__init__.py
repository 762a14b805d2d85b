"""Sandboxes from Python, and the `longshore` command."""

from __future__ import annotations

__version__ = "0.1.0"
