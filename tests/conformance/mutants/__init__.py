"""Plugins that are broken on purpose, each with the law that it breaks, named beforehand.

Most drivers are the reference with one thing changed; the others wrap `fork_exec`, and claim what
it does not do, or leave undone what it claims.
"""

from __future__ import annotations

from tests.conformance.mutants import abilities as abilities
from tests.conformance.mutants import hosts as hosts
from tests.conformance.mutants import life as life
from tests.conformance.mutants import others as others
from tests.conformance.mutants import processes as processes
from tests.conformance.mutants import workers as workers
from tests.conformance.mutants.planting import MUTANTS as MUTANTS
from tests.conformance.mutants.planting import Mutant as Mutant
