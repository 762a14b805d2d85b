"""What this driver refuses before it makes anything."""

from __future__ import annotations

from longshore_core import BackendError, ContainerSpec, Limit, UnsupportedCapability


def check(spec: ContainerSpec, enforceable: frozenset[Limit]) -> None:
    """Raise UnsupportedCapability for a limit that cannot be enforced on this host, and
    BackendError for what cannot be said to any process."""
    wanted = {
        Limit.CPU: spec.limits.cpu_millis,
        Limit.MEMORY: spec.limits.memory_bytes,
        Limit.DISK: spec.limits.disk_bytes,
        Limit.PIDS: spec.limits.pids,
    }
    for limit, value in wanted.items():
        if value is not None and limit not in enforceable:
            known = ", ".join(sorted(enforceable)) or "none"
            raise UnsupportedCapability(
                f"container {spec.id}: fork_exec cannot limit {limit} on this host (only: {known})"
            )
    if not spec.argv:
        raise BackendError(f"container {spec.id}: argv is empty")
    words = (*spec.argv, *spec.env, *spec.env.values(), spec.cwd or "")
    if any("\0" in word for word in words):
        raise BackendError(f"container {spec.id}: argv, env and cwd cannot hold a NUL character")
    if any(not name or "=" in name for name in spec.env):
        raise BackendError(f"container {spec.id}: env has a name that is empty or holds '='")
