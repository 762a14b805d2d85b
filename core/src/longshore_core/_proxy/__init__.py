"""The HTTP proxy: routes a request to the guest of a container, and streams both ways.

Pure: `heads`, `framing`, `answers`, `table`, `routing`, `layers`. The modules named `serve*` are
the only ones with sockets, beside `feed`, which follows the worker's routes.
"""
