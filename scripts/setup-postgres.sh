#!/bin/sh
# Makes sure that a PostgreSQL server is installed: what the demo and the tests start throw-away servers from.
# Does nothing if there is one. Never starts, stops or configures a server of the machine.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=scripts/packages.sh
. "$here/packages.sh"

# The same places, in the same order, as loadtest/src/binaries.rs.
has_server() {
    for directory in "${PGCORRAL_PG_BIN:-}" $(echo "$PATH" | tr ':' ' ') /usr/lib/postgresql/*/bin \
        "$(pg_config --bindir 2>/dev/null || true)"; do
        [ -x "$directory/initdb" ] && [ -x "$directory/postgres" ] && return 0
    done
    return 1
}

has_server && exit 0
if ! command -v apt-get >/dev/null; then
    echo "no PostgreSQL server found; please install one (brew install postgresql, dnf install postgresql-server, ...)" >&2
    echo "or name the directory of initdb and postgres in PGCORRAL_PG_BIN" >&2
    exit 1
fi
# Debian's package makes and starts a server of the machine's own unless it is told not to: not wanted here.
refusal=/etc/postgresql-common/createcluster.d/pgcorral.conf
if may_be_root; then
    as_root mkdir -p "$(dirname "$refusal")"
    echo 'create_main_cluster = false' | as_root tee "$refusal" >/dev/null
    trap 'as_root rm -f "$refusal"; as_root rmdir "$(dirname "$refusal")" 2>/dev/null || true' EXIT
fi
install_packages "a PostgreSQL server" postgresql
has_server || { echo "the package postgresql was installed, but no server was found" >&2; exit 1; }
