"""For those who test against Longshore: importable without pytest, part of the public shelf."""
