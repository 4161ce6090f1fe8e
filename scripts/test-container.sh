#!/bin/bash
# Builds the images of the Dockerfile, without a daemon, and tests them: tests/it/container.rs. Where no registry of images can
# be reached, the image to build in is made from Debian's packages and the Rust of this machine.
#
# Exit code 77: nothing was tested, because this machine does not let us build images. The reason is on standard error.
set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=scripts/packages.sh
. "$here/packages.sh"
cd "$here/.."

not_tested() {
    echo "THE CONTAINER IMAGE WAS NOT TESTED: $1" >&2
    exit 77
}

buildah() { "$here/buildah.sh" "$@"; }

# need COMMAND WHY PACKAGE...
need() {
    PATH=$PATH:/usr/sbin command -v "$1" >/dev/null && return
    command -v apt-get >/dev/null && may_be_root || not_tested "$2 ($1) is missing, and installing it needs root and apt"
    install_packages "${@:2}"
}

storage=target/container
scratch=
trap '[ -z "$scratch" ] || as_root rm -rf "$scratch"' EXIT

# Where a base that we have made has its Rust: lent by this machine, because copying it takes longer than using it.
lent=/usr/local/rust

# make_base NAME: what the image of this name has, as far as the Dockerfile needs it, but for Rust.
make_base() {
    local name=$1 suite=${1##*-} container
    need debootstrap "a maker of Debian systems" debootstrap debian-archive-keyring
    may_be_root || not_tested "no registry of images can be reached, and making $name without one needs root"
    scratch=$(mktemp -d "$PWD/$storage/base.XXXXXX")
    as_root debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev "$suite" "$scratch/root" >"$scratch/log" ||
        { tail -n 20 "$scratch/log" >&2; not_tested "no registry of images can be reached, and $name cannot be made either"; }
    # With the authorities that this machine trusts: there may be a proxy that ends TLS.
    as_root sh -c 'cd "$1" && rm -rf var/cache/apt var/lib/apt/lists && cp /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/' \
        - "$scratch/root"
    # As an archive, because an ordinary user may not read all of it.
    as_root tar -C "$scratch/root" -c . >"$scratch/root.tar"
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$scratch/root.tar" / >/dev/null
    buildah config --env CARGO_HOME=/usr/local/cargo --env PATH=$lent/bin:/usr/local/bin:/usr/bin:/bin "$container"
    buildah commit --quiet --rm "$container" "$name" >/dev/null
    as_root rm -rf "$scratch"
    touch "$storage/made"
}

"$here/setup-postgres.sh"
need buildah "a builder of images" buildah
[ "$(id -u)" -eq 0 ] || need newuidmap "what ordinary users need to build images" uidmap
mkdir -p "$storage"
reason=$(buildah images 2>&1) || not_tested "buildah cannot work here: $reason"

base=$(sed -n 's/^FROM \(.*\) AS dependencies$/\1/p' Dockerfile)
if ! buildah inspect --type image "$base" >/dev/null 2>&1; then
    echo "getting $base"
    rm -f "$storage/made"
    timeout 600 "$here/buildah.sh" pull --quiet "$base" >/dev/null 2>&1 || {
        echo "no registry has it for us: making it"
        make_base "$base"
    }
fi
lend=()
[ ! -e "$storage/made" ] || lend=(--volume "$(rustc --print sysroot):$lent:ro")

# Nothing is built again that is the same: a build takes minutes.
stamp=$(find Dockerfile .dockerignore Cargo.toml Cargo.lock LICENSE-* config/container.toml loadtest src -type f -print0 |
    sort -z | xargs -0 cksum | cksum)
if [ "$(cat "$storage/stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -f "$storage/stamp"
    for target in dependencies build loadtest pgcorral; do
        echo "building $target"
        # The format of OCI has no health checks.
        buildah bud --layers --pull-never --format docker "${lend[@]}" --target "$target" --tag "localhost/$target:test" . \
            >"$storage/$target.log" 2>&1 || { tail -n 40 "$storage/$target.log" >&2; exit 1; }
    done
    # What has a name stays, and is built on the next time; what had it before would soon fill the disk.
    buildah rmi --prune >/dev/null
    echo "$stamp" >"$storage/stamp"
fi

# With the whole workspace, as `make test` has built it already.
PGCORRAL_BUILDAH=$here/buildah.sh "${CARGO:-cargo}" test --workspace --locked --test it -- --ignored container::
