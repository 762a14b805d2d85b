"""The public shelf of Longshore's kernel: what a plugin imports, with `.abc` and `.hookspecs`."""

from __future__ import annotations

from longshore_core._errors import BackendError as BackendError
from longshore_core._errors import CapacityExhausted as CapacityExhausted
from longshore_core._errors import ConfigError as ConfigError
from longshore_core._errors import EngineUnavailable as EngineUnavailable
from longshore_core._errors import GuestError as GuestError
from longshore_core._errors import ImageError as ImageError
from longshore_core._errors import KernelBug as KernelBug
from longshore_core._errors import LongshoreError as LongshoreError
from longshore_core._errors import NetworkPolicyError as NetworkPolicyError
from longshore_core._errors import PluginContractError as PluginContractError
from longshore_core._errors import PluginCrash as PluginCrash
from longshore_core._errors import PluginError as PluginError
from longshore_core._errors import PluginLoadError as PluginLoadError
from longshore_core._errors import RegistryError as RegistryError
from longshore_core._errors import RequestError as RequestError
from longshore_core._errors import UnknownPlugin as UnknownPlugin
from longshore_core._errors import UnsupportedCapability as UnsupportedCapability
from longshore_core._model import JSON as JSON
from longshore_core._model import PLUGIN_API as PLUGIN_API
from longshore_core._model import Attachment as Attachment
from longshore_core._model import Chunk as Chunk
from longshore_core._model import ContainerId as ContainerId
from longshore_core._model import ContainerKind as ContainerKind
from longshore_core._model import ContainerSpec as ContainerSpec
from longshore_core._model import Exit as Exit
from longshore_core._model import Facts as Facts
from longshore_core._model import Fingerprint as Fingerprint
from longshore_core._model import Found as Found
from longshore_core._model import Gap as Gap
from longshore_core._model import Handle as Handle
from longshore_core._model import Launch as Launch
from longshore_core._model import Limit as Limit
from longshore_core._model import Limits as Limits
from longshore_core._model import NetworkMode as NetworkMode
from longshore_core._model import NetworkPolicy as NetworkPolicy
from longshore_core._model import Phase as Phase
from longshore_core._model import PullProgress as PullProgress
from longshore_core._model import Reach as Reach
from longshore_core._model import Stream as Stream
from longshore_core._model import TcpReach as TcpReach
from longshore_core._model import Transition as Transition
from longshore_core._model import Tree as Tree
from longshore_core._model import UnixReach as UnixReach
from longshore_core._model import Usage as Usage
from longshore_core.abc import Host as Host
from longshore_core.abc import Plug as Plug
from longshore_core.hookspecs import hookimpl as hookimpl

__version__ = "0.1.0"
