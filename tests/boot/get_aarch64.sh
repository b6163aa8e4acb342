#!/bin/sh
# Puts Debian's Python for aarch64 into .build/aarch64, for the test that runs the archive under qemu-user. None of
# Debian's programs for aarch64 is run. Root lets it install what it needs itself.
set -eu
cd "$(dirname "$0")/../.."
command -v qemu-aarch64-static mmdebstrap >/dev/null && command -v mmdebstrap >/dev/null ||
    apt-get install -y -qq --no-install-recommends qemu-user-static mmdebstrap
packages=python3.11,python3.11-minimal,libpython3.11-stdlib,libc6,libstdc++6,libffi8,libssl3,zlib1g,liblzma5,libbz2-1.0
rm -rf .build/aarch64
mkdir -p .build
mmdebstrap --quiet --variant=extract --architectures=arm64 --include="$packages" bookworm .build/aarch64
