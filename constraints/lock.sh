#!/bin/sh
# Pins every distribution with its hashes and without addresses. Needs `uv` (in constraints/dev.txt).
set -eu
cd "$(dirname "$0")"
for name in installer runtime dev tensorlake-0.4.0 tensorlake-0.5.162; do
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links --no-emit-build-options "$@" "$name.in" -o "$name.txt"
done
