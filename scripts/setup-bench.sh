#!/bin/sh
# Makes sure that what the benchmark compares with is installed: PostgreSQL, its pgbench, and PgBouncer.
# The benchmark starts its own PgBouncer; the system's service is left as it is.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=scripts/packages.sh
. "$here/packages.sh"

"$here/setup-postgres.sh"
PATH=$PATH:/usr/sbin
command -v pgbouncer >/dev/null && exit 0
command -v apt-get >/dev/null || { echo "please install pgbouncer" >&2; exit 1; }
install_packages "PgBouncer" pgbouncer
