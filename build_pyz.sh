#!/bin/sh
# Makes aero.pyz, the one file that AeRO-proxy is shipped as, and SHA256SUMS beside it.
#   ./build_pyz.sh           for CPython 3.9 to 3.14 on glibc Linux, x86-64 and aarch64
#   ./build_pyz.sh --host    for this machine's Python only: small and quick
#   ./build_pyz.sh --help    everything else
# It needs Python 3.9 or newer (PYTHON names another one) and, the first time, pip's index; downloads stay in .build/.
set -eu
cd "$(dirname "$0")"
umask 022
exec "${PYTHON:-python3}" tools/build_pyz.py "$@"
