"""Identifiers that the server gives out."""

from __future__ import annotations

import secrets
import string
from typing import Final

ALPHABET: Final = string.digits + string.ascii_lowercase
LENGTH: Final = 21


def new_id() -> str:
    """An id that nobody has had: 21 characters of 0-9 and a-z, 108 bits."""
    return "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
