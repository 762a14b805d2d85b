"""Reads the body of a request field by field, and says what is wrong with which."""

from __future__ import annotations

from longshore_daemon.inside.exchange import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore_daemon.inside.jsontext import JSON


class Fields:
    """A JSON object. `null` is the same as absence; unknown fields are left alone.

    Each method raises ApiError 422 naming the field.
    """

    __slots__ = ("_values",)

    def __init__(self, body: JSON) -> None:
        if not isinstance(body, dict):
            raise _refuse("the body", "an object")
        self._values = body

    def text(self, name: str) -> str | None:
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not _is_usable(value):
            raise _refuse(name, "a string without NUL")
        return value

    def required_text(self, name: str) -> str:
        value = self.text(name)
        if not value:
            raise _refuse(name, "a string that is not empty")
        return value

    def texts(self, name: str) -> list[str]:
        values = self._values.get(name)
        if values is None:
            return []
        if not isinstance(values, list):
            raise _refuse(name, "a list of strings without NUL")
        texts = [value for value in values if isinstance(value, str) and _is_usable(value)]
        if len(texts) != len(values):
            raise _refuse(name, "a list of strings without NUL")
        return texts

    def environment(self, name: str) -> dict[str, str]:
        values = self._values.get(name)
        if values is None:
            return {}
        wanted = "an object of strings without NUL, with names without '='"
        if not isinstance(values, dict):
            raise _refuse(name, wanted)
        env: dict[str, str] = {}
        for key, value in values.items():
            if not isinstance(value, str) or not key or "=" in key or not _is_usable(key + value):
                raise _refuse(name, wanted)
            env[key] = value
        return env

    def choice(self, name: str, *choices: str) -> str:
        """One of `choices`; the first when there is none."""
        value = self.text(name)
        if value is not None and value not in choices:
            raise _refuse(name, " or ".join(repr(choice) for choice in choices))
        return value or choices[0]

    def positive(self, name: str) -> float | None:
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
            raise _refuse(name, "a number above 0")
        return float(value)

    def refuse(self, *names: str) -> None:
        """What is asked for by these is not there: who asks must not believe that it is done.

        Raises ApiError 501.
        """
        for name in names:
            if self._values.get(name):
                message = f"{name}: processes are not managed here; leave it out"
                raise ApiError(501, "UNSUPPORTED_CAPABILITY", message)

    def integer(self, name: str, default: int | None = None) -> int:
        value = self._values.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise _refuse(name, "a whole number")
        return value


def _refuse(name: str, wanted: str) -> ApiError:
    return ApiError(422, "INVALID_REQUEST", f"{name}: {wanted} is wanted")


def _is_usable(text: str) -> bool:
    """The system can be told of it: no NUL, and no half of a character."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return "\0" not in text
