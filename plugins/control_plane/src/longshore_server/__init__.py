"""A control plane for Longshore's workers: HTTP for callers, gRPC for workers, one store."""

from __future__ import annotations

from longshore_server.settings import ServerSettings as ServerSettings

__version__ = "0.1.0"
