"""The callers' side: the HTTP API."""
