"""For those who test against Longshore: importable without pytest, part of the public shelf.

`run_laws("fork_exec", DRIVER_LAWS)` examines a driver; `pytest --pyargs longshore_core.conformance
--driver=fork_exec` does so for people. Each law can be awaited alone, with a `Bench`.
"""

from __future__ import annotations

from longshore_core.testing.bench import Bench as Bench
from longshore_core.testing.bench import SeamBench as SeamBench
from longshore_core.testing.bench import Settings as Settings
from longshore_core.testing.catalogue import DRIVER_LAWS as DRIVER_LAWS
from longshore_core.testing.catalogue import GUEST_LAWS as GUEST_LAWS
from longshore_core.testing.catalogue import LAWS as LAWS
from longshore_core.testing.catalogue import MIDDLEWARE_LAWS as MIDDLEWARE_LAWS
from longshore_core.testing.catalogue import NETWORK_LAWS as NETWORK_LAWS
from longshore_core.testing.catalogue import REGISTRY_LAWS as REGISTRY_LAWS
from longshore_core.testing.law import Environment as Environment
from longshore_core.testing.law import Failed as Failed
from longshore_core.testing.law import Law as Law
from longshore_core.testing.law import NotDeclared as NotDeclared
from longshore_core.testing.law import Outcome as Outcome
from longshore_core.testing.law import Passed as Passed
from longshore_core.testing.law import Profile as Profile
from longshore_core.testing.law import Verdict as Verdict
from longshore_core.testing.law import in_profile as in_profile
from longshore_core.testing.run import run_laws as run_laws
from longshore_core.testing.subject import find_subject as find_subject
