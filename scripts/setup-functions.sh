#!/bin/bash
# Makes ready what `loadtest` starts as function instances: the handlers of loadtest/functions with their bootstraps and
# drivers, as they would be deployed, into target/functions. The drivers are those of setup-drivers.sh, installed once.
# Quick when nothing has changed since the last time.
#
# What is in target/functions is overwritten, and nothing else is, whatever LOADTEST_FUNCTIONS says. A handler of one's
# own goes into a copy of that directory, which `--functions` or LOADTEST_FUNCTIONS names to `loadtest`.
set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=scripts/drivers.sh
. "$here/drivers.sh"

function_sources=$here/../loadtest/functions
functions=$here/../target/functions
mkdir -p "$functions"
functions=$(cd "$functions" && pwd)

# deploy RUNTIME FILE...: copies, because Node.js looks for modules beside the file itself, not beside a link to it.
deploy() {
    local runtime=$1
    shift
    mkdir -p "$functions/$runtime"
    (cd "$function_sources/$runtime" && cp "$@" "$functions/$runtime/")
}

deploy_python() {
    setup_python && deploy python handler.py bootstrap.py && ln -sfn "$installed/venv" "$functions/python/venv"
}

deploy_node() {
    setup_node && deploy node handler.mjs bootstrap.mjs &&
        ln -sfn "$installed/node/node_modules" "$functions/node/node_modules"
}

deploy_go() {
    setup_go "$functions/go" function lib/pq golang-github-lib-pq-dev \
        "$function_sources/go/handler.go" "$function_sources/go/bootstrap.go"
}

attempt psycopg deploy_python
attempt node-postgres deploy_node
attempt lib-pq deploy_go
report_missing "functions of drivers"
