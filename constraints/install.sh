#!/bin/sh
# install.sh runtime|dev [DIST…]: the pinned dependencies into .venv, then our own distributions.
set -eu
cd "$(dirname "$0")/.."
pins=$1
shift
python=${PYTHON:-python3}

# uv needs seconds where pip needs half a minute; where there is no uv, or only pip knows the way to
# the index, pip does it.
install() {
    # Compiled now, as pip does, and not at the first start, where somebody waits.
    .venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python "$@" 2>.venv/uv.log ||
        .venv/bin/pip install --quiet --disable-pip-version-check "$@"
}

if [ ! -x .venv/bin/pip ]; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        { echo "error: $python is older than 3.11; name another one: make PYTHON=python3.13 …" >&2; exit 1; }
    echo "making .venv"
    "$python" -m venv .venv ||
        { rm -rf .venv; echo "error: no venv; on Debian: apt-get install python3-venv" >&2; exit 1; }
fi
if [ ! -x .venv/bin/uv ]; then
    .venv/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
        -r constraints/installer.txt || echo "no uv for this machine; pip does it, but slower"
fi
echo "installing what $pins needs"
install --require-hashes -r "constraints/$pins.txt"
# An editable cannot be hashed, hence the second step.
set -- $(for dist in "$@"; do printf ' -e %s' "$dist"; done)
[ $# -eq 0 ] || install --no-deps --no-build-isolation "$@"
.venv/bin/python -m compileall -q core/src proto/src sdk/src plugins/*/src
