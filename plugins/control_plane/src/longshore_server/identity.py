"""Identifiers that the server gives out."""

from __future__ import annotations

import secrets
import string
from typing import Final

ALPHABET: Final = string.digits + string.ascii_lowercase
LENGTH: Final = 21
_IDS: Final = len(ALPHABET) ** LENGTH


def new_id() -> str:
    """An id that nobody has had: 21 characters of 0-9 and a-z, 108 bits."""
    number = secrets.randbelow(_IDS)
    letters: list[str] = []
    for _ in range(LENGTH):
        number, place = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[place])
    return "".join(letters)
