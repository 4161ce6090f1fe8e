#!/bin/bash
# buildah with a storage of its own in target/container: needs no daemon, and touches no images of the machine.
set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
mkdir -p "$here/../target/container"
storage=$(cd "$here/../target/container" && pwd)

# A process in another root, without the namespaces that an engine makes: those are often not to be had.
export BUILDAH_ISOLATION=chroot
# Without the storage mounted onto itself, which would be in the way of whoever removes target/.
overlay=(--storage-driver overlay --storage-opt overlay.skip_mount_home=true)
where=(--root "$storage/images" --runroot "$storage/run")
if buildah "${where[@]}" "${overlay[@]}" images >/dev/null 2>&1; then
    exec buildah "${where[@]}" "${overlay[@]}" "$@"
fi
# Overlay is not there everywhere, on top of another overlay for one. This copies whole trees, and takes longer.
exec buildah "${where[@]}" --storage-driver vfs "$@"
