#!/bin/sh
# Generates longshore_proto from protos/ with the pinned grpcio-tools and mypy-protobuf.
set -eu
cd "$(dirname "$0")"
bin=../.venv/bin
mkdir -p build/longshore_proto
cp protos/*.proto build/longshore_proto/
PATH="$bin:$PATH" "$bin/python" -m grpc_tools.protoc -Ibuild --python_out=src --grpc_python_out=src \
    --mypy_out=readable_stubs:src --mypy_grpc_out=src build/longshore_proto/*.proto
rm -rf build
