"""Every error that Longshore raises, sorted by who must act.

LongshoreError
├── ConfigError               the operator: names the YAML path
│   └── UnknownPlugin
├── PluginError               the plugin's author: names the distribution and its version
│   ├── PluginLoadError
│   ├── PluginContractError
│   └── PluginCrash
├── BackendError              the world outside: `retryable` says whether to try again
│   ├── CapacityExhausted
│   ├── EngineUnavailable
│   ├── GuestError
│   ├── ImageError
│   ├── NetworkPolicyError
│   ├── RegistryError
│   └── UnsupportedCapability
├── RequestError              the caller: carries an HTTP status and a stable code
└── KernelBug                 us
"""

from __future__ import annotations

from typing import ClassVar


class LongshoreError(Exception):
    """The root. `code` is stable, upper snake case, and safe to match on."""

    code: ClassVar[str] = "INTERNAL_ERROR"
    retryable: bool = False


class ConfigError(LongshoreError):
    """The configuration cannot be used. `path` is where in the YAML, dotted; empty: all of it."""

    code = "CONFIG_INVALID"

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


class UnknownPlugin(ConfigError):
    """The configuration names a plugin that is not installed."""

    code = "PLUGIN_UNKNOWN"


class PluginError(LongshoreError):
    """A plugin broke. `plugin` is its name; the message names its distribution and version."""

    code = "PLUGIN_FAILED"

    def __init__(self, plugin: str, message: str) -> None:
        super().__init__(f"plugin {plugin}: {message}" if plugin else message)
        self.plugin = plugin


class PluginLoadError(PluginError):
    """A plugin could not be imported."""

    code = "PLUGIN_LOAD_FAILED"


class PluginContractError(PluginError):
    """A plugin was imported but does not keep the contract of its seam."""

    code = "PLUGIN_CONTRACT_BROKEN"


class PluginCrash(PluginError):
    """A plugin raised an error that is not one of these."""

    code = "PLUGIN_CRASHED"


class BackendError(LongshoreError):
    """Something outside Longshore failed: an engine, an image, a rule, a sandbox.

    `retryable` says whether the same call may succeed later without anybody acting.
    """

    code = "BACKEND_FAILED"

    def __init__(self, message: str, *, retryable: bool | None = None) -> None:
        super().__init__(message)
        if retryable is not None:
            self.retryable = retryable


class CapacityExhausted(BackendError):
    """A resource has run out. Names it, what was asked for and what there is."""

    code = "CAPACITY_EXHAUSTED"
    retryable = True

    def __init__(self, resource: str, *, requested: int, available: int) -> None:
        super().__init__(f"not enough {resource}: requested {requested}, available {available}")
        self.resource = resource
        self.requested = requested
        self.available = available

    def __reduce__(self) -> tuple[object, ...]:
        return (_capacity_exhausted, (self.resource, self.requested, self.available))


def _capacity_exhausted(resource: str, requested: int, available: int) -> CapacityExhausted:
    return CapacityExhausted(resource, requested=requested, available=available)


class EngineUnavailable(BackendError):
    """The engine cannot be asked right now. Nothing follows about the containers that it runs."""

    code = "ENGINE_UNAVAILABLE"
    retryable = True


class GuestError(BackendError):
    """What runs as PID 1 in a container did not answer, or answered with an error."""

    code = "GUEST_FAILED"


class ImageError(BackendError):
    """The image does not exist, may not be pulled or cannot run here."""

    code = "IMAGE_FAILED"


class NetworkPolicyError(BackendError):
    """A network policy could not be put in force. The container must not run."""

    code = "NETWORK_POLICY_FAILED"


class RegistryError(BackendError):
    """A registry refused, or could not be reached."""

    code = "REGISTRY_FAILED"


class UnsupportedCapability(BackendError):
    """The driver does not offer what was asked for. Never silently replaced by something less."""

    code = "UNSUPPORTED_CAPABILITY"


class RequestError(LongshoreError):
    """The caller's request cannot be served. `status` is an HTTP status, `code` a stable word."""

    def __init__(self, status: int, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.code = code  # type: ignore[misc]  # the instance's code, in place of the class's
        self.retryable = retryable


class KernelBug(LongshoreError):
    """An invariant of the kernel does not hold: a defect of Longshore, never of its users."""

    code = "KERNEL_BUG"
