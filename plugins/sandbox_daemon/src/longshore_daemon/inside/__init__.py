"""What runs as PID 1 inside a sandbox: one thread, one readiness loop, standard library only.

Every sandbox pays for what is imported here, in memory for as long as it lives and in time before
it is ready. So these modules hold to three rules, which a test checks:

* C modules where their Python fronts are dear: `_socket`, `_signal` and `_json`, for `socket`,
  `signal` and `json`, save 13 ms and 1.5 MB. No typing, dataclasses, enum, re, logging, asyncio,
  threading, subprocess, tempfile, ssl; hence plain classes with slots, and `TYPE_CHECKING = False`.
* Nothing that makes libc load code which the image supplies: no pwd, no grp, no getaddrinfo, no
  locale, no iconv. Names of users come from `/etc/passwd` itself, addresses are literal.
* The loop never waits for one party on behalf of another: who is slow, waits alone. What the system
  lets nobody wait for otherwise, fsync, has a thread for as long as it takes.

What most sandboxes never use is imported when it is asked for: see `areas`.

`longshore_daemon.runtime` assembles them, compiled, into the tree that is mounted into sandboxes.
"""
