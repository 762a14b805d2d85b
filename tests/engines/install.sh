#!/bin/sh
# install.sh: what the tests with real engines need, from Debian's packages. As root.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends \
    docker.io podman crun runc uidmap slirp4netns busybox-static docker-registry iptables iproute2 ca-certificates apache2-utils \
    btrfs-progs

# Podman without root opens it for its network. Everybody may where udev runs, which it does not in every container.
[ ! -c /dev/net/tun ] || chmod 0666 /dev/net/tun
