#!/bin/bash
# Installs the drivers that tests/drivers compares, into target/drivers: a Python environment, Node.js modules, and programs
# built from the Go sources and the jar that Debian packages, and with cargo. Quick when nothing has changed since the last
# time.
#
# What cannot be installed is said here and fails the test run, unless PGCORRAL_SKIP_DRIVERS (comma separated) lists it.
set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=scripts/drivers.sh
. "$here/drivers.sh"

# setup_go_programs NAME LIBRARY PACKAGE: one for each matrix.
setup_go_programs() {
    local go=$driver_sources/go defaults=$driver_sources/defaults/go
    setup_go "$installed/bin" "driver_$1" "$2" "$3" "$go/matrix.go" "$go/driver_$1.go" &&
        setup_go "$installed/bin" "default_$1" "$2" "$3" "$go/matrix.go" "$defaults/scenario.go" "$defaults/default_$1.go"
}

attempt psycopg,asyncpg,sqlalchemy-null,sqlalchemy-queue,django setup_python
attempt node-postgres,postgres-js,drizzle,knex setup_node
attempt lib-pq setup_go_programs lib_pq lib/pq golang-github-lib-pq-dev
attempt pgx setup_go_programs pgx jackc/pgx golang-github-jackc-pgx-v4-dev
attempt pgjdbc setup_java "$driver_sources/defaults/java/DefaultPgjdbc.java"
attempt tokio-postgres,sqlx,diesel setup_rust "$driver_sources/defaults/rust" default_tokio_postgres default_sqlx default_diesel
report_missing drivers
