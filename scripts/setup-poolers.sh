#!/bin/sh
# Makes sure that what the benchmark and the comparison measure is installed: PostgreSQL, its pgbench, and PgBouncer.
# Both start their own PgBouncer; the system's service is not started.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=scripts/packages.sh
. "$here/packages.sh"

"$here/setup-postgres.sh"
PATH=$PATH:/usr/sbin
command -v pgbouncer >/dev/null && exit 0
command -v apt-get >/dev/null || { echo "please install pgbouncer" >&2; exit 1; }
# Debian starts what it installs, and PgBouncer's port is that of `pgcorral serve`: it is told not to, for as long as it installs.
policy=/usr/sbin/policy-rc.d
if may_be_root && [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod +x "$policy"
    trap 'as_root rm -f "$policy"' EXIT
fi
install_packages "PgBouncer" pgbouncer
