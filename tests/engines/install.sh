#!/bin/sh
# install.sh: what the tests with real engines need, from Debian's packages. As root.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends \
    docker.io podman crun runc uidmap slirp4netns busybox-static docker-registry iptables iproute2 ca-certificates apache2-utils
