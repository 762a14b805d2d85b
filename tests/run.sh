#!/bin/sh
# Every test, by the pytest that is named first: `sh tests/run.sh .venv/bin/pytest [ARGS…]`.
# Many at a time; then, one by one, those marked `alone`, which would measure the others.
set -u
pytest=$1
shift
NONE=5 # pytest's status when there was nothing to run

"$pytest" -q -n "$(($(nproc) + 1))" --dist loadgroup -m 'not alone' "$@"
many=$?
[ "$many" -eq 2 ] && exit 2 # interrupted

"$pytest" -q -m alone "$@"
alone=$?
[ "$many" -eq "$NONE" ] && exit "$alone"
[ "$many" -eq 0 ] && [ "$alone" -ne "$NONE" ] && exit "$alone"
exit "$many"
