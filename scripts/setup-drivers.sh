#!/bin/bash
# Installs the drivers that tests/drivers compares, and what the other tests of drivers need, into target/drivers: Python
# environments, Node.js modules, and programs built from the Go sources and the jar that Debian packages, and with cargo. Quick
# when nothing has changed since the last time.
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

# setup_go_retry: the example of retries is for pgx 5, and Debian has pgx 4. They differ in their import paths here, and in
# nothing else.
setup_go_retry() {
    local sources=$installed/go-sources/retry source
    mkdir -p "$sources"
    for source in "$here/../docs/retry/pgx.go" "$driver_sources/retry/storm_pgx.go"; do
        sed -e 's,jackc/pgx/v5/pgconn,jackc/pgconn,' -e 's,jackc/pgx/v5,jackc/pgx/v4,' "$source" \
            >"$sources/$(basename "$source")" || return 1
    done
    setup_go "$installed/bin" retry_pgx jackc/pgx golang-github-jackc-pgx-v4-dev "$sources/pgx.go" "$sources/storm_pgx.go"
}

setup_java_programs() {
    setup_java java "$driver_sources/defaults/java/DefaultPgjdbc.java" &&
        setup_java java-retry "$driver_sources/retry/StormPgjdbc.java" "$here/../docs/retry/Jdbc.java"
}

attempt psycopg,asyncpg,sqlalchemy-null,sqlalchemy-queue,django setup_python
# OpenTelemetry's instrumentation of psycopg, for the test of traces.
attempt psycopg setup_venv traces traces
attempt node-postgres,postgres-js,drizzle,knex setup_node
attempt lib-pq setup_go_programs lib_pq lib/pq golang-github-lib-pq-dev
attempt pgx setup_go_programs pgx jackc/pgx golang-github-jackc-pgx-v4-dev
attempt pgx setup_go_retry
attempt pgjdbc setup_java_programs
attempt tokio-postgres,sqlx,diesel setup_rust "$driver_sources/defaults/rust" default_tokio_postgres default_sqlx default_diesel
report_missing drivers
