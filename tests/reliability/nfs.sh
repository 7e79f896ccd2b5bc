#!/usr/bin/env bash
# Line 7: sixteen processes in one cache over two loopback NFS mounts, NFSv3 and NFSv4.2, each with a cache of its
# own. Needs root, a kernel with nfsd and nfs, and nfs-kernel-server; where one of these is missing it says so and
# ends with 77. Run it from the root of the repository, with the library installed in .venv:
#
#     sudo tests/reliability/nfs.sh [SECONDS]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seconds=${1:-60}
python=$PWD/.venv/bin/python

cannot() {
    echo "skipped: $1" >&2
    exit 77
}

[ "$(id -u)" = 0 ] || cannot "mounting needs root"
command -v exportfs >/dev/null || cannot "nfs-kernel-server is not installed"
modprobe nfsd 2>/dev/null || grep -qw nfsd /proc/filesystems || cannot "this kernel has no nfsd"
modprobe nfs 2>/dev/null || grep -qw nfs /proc/filesystems || cannot "this kernel has no nfs client"

place=$(mktemp -d)
mkdir -p "$place/export" "$place/v3" "$place/v4"
cleanup() {
    umount "$place/v3" "$place/v4" 2>/dev/null || true
    exportfs -u "127.0.0.1:$place/export" 2>/dev/null || true
    rm -rf "$place"
}
trap cleanup EXIT

mount -t nfsd nfsd /proc/fs/nfsd 2>/dev/null || true
pgrep -x rpcbind >/dev/null || rpcbind
pgrep -x rpc.statd >/dev/null || rpc.statd
pgrep -x rpc.mountd >/dev/null || rpc.mountd
rpc.nfsd --host 127.0.0.1 8
exportfs -o rw,sync,no_subtree_check,no_root_squash,fsid=4242 "127.0.0.1:$place/export"
mount -t nfs -o vers=3,nosharecache,proto=tcp "127.0.0.1:$place/export" "$place/v3"
mount -t nfs -o vers=4.2,nosharecache "127.0.0.1:$place/export" "$place/v4"

"$(dirname "$python")/chunk-memo" doctor "$place/v3" || true
"$(dirname "$python")/chunk-memo" doctor "$place/v4" || true

# Eight processes on each mount, in one root: what one client writes the other must never read wrongly.
export PYTHONPATH=$PWD:$PWD/tests:$PWD/tests/reliability
"$python" -W error tests/reliability/crowding.py "$place/v3/crowd" 8 "$seconds" >"$place/first" &
first=$!
sleep 1
"$python" -W error tests/reliability/crowding.py "$place/v4/crowd" 8 "$seconds" keep >"$place/second" || {
    wait "$first" || true
    cannot_pass=1
}
wait "$first"
cat "$place/first" "$place/second"
[ -z "${cannot_pass:-}" ]
