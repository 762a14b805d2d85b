#!/bin/sh
# install.sh runtime|dev [DIST…]: the pinned dependencies into .venv, then our own distributions.
set -eu
cd "$(dirname "$0")/.."
pins=$1
shift
[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r "constraints/$pins.txt"
# An editable cannot be hashed, hence the second step.
set -- $(for dist in "$@"; do printf ' -e %s' "$dist"; done)
[ $# -eq 0 ] || .venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation "$@"
