#!/bin/bash
# Installs the drivers that tests/drivers compares, into target/drivers: a Python environment, Node.js modules, and two
# programs built from the Go sources that Debian packages. Quick when nothing has changed since the last time.
#
# Nothing is written outside target/ but packages of the system, and only if they are missing. What cannot be installed
# is said here and fails the test run, unless PGCORRAL_SKIP_DRIVERS (comma separated) lists it.
set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=scripts/packages.sh
. "$here/packages.sh"

sources=$here/../tests/drivers
installed=${PGCORRAL_DRIVERS_DIR:-$here/../target/drivers}
mkdir -p "$installed"
installed=$(cd "$installed" && pwd)

wanted() {
    case ",${PGCORRAL_SKIP_DRIVERS:-}," in *",$1,"*) return 1 ;; esac
}

# stamp FILE...: what an installation depends on, as one word. The folder counts too: an environment cannot be moved.
stamp() {
    { echo "$installed"; cat "$@"; } | cksum | tr ' ' '-'
}

# is_current PART STAMP
is_current() {
    [ "$(cat "$installed/$1.stamp" 2>/dev/null)" = "$2" ]
}

# packages_for WHY PACKAGE...: does not end this script where there is no apt or no right to install.
packages_for() {
    command -v apt-get >/dev/null || { echo "$1 is missing; please install it" >&2; return 1; }
    (install_packages "$@")
}

python_is_there() {
    python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

setup_python() {
    python_is_there || packages_for "Python with venv" python3 python3-venv || return 1
    local stamp
    stamp=$(stamp "$sources/python/requirements.txt" <(python3 --version))
    if is_current python "$stamp" && [ -x "$installed/venv/bin/python" ]; then return 0; fi
    echo "installing the Python drivers"
    rm -rf "$installed/venv"
    python3 -m venv "$installed/venv" || return 1
    "$installed/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps \
        --only-binary :all: -r "$sources/python/requirements.txt" || return 1
    echo "$stamp" >"$installed/python.stamp"
}

setup_node() {
    command -v node >/dev/null && command -v npm >/dev/null || packages_for "Node.js with npm" nodejs npm || return 1
    local stamp
    stamp=$(stamp "$sources/node/package.json" "$sources/node/package-lock.json" <(node --version))
    if is_current node "$stamp" && [ -d "$installed/node/node_modules" ]; then return 0; fi
    echo "installing the Node.js drivers"
    mkdir -p "$installed/node"
    cp "$sources/node/package.json" "$sources/node/package-lock.json" "$installed/node/"
    (cd "$installed/node" && npm_config_cache=$installed/npm-cache npm_config_update_notifier=false \
        npm ci --loglevel=error --ignore-scripts --no-audit --no-fund --omit-lockfile-registry-resolved) || return 1
    rm -rf "$installed/npm-cache"
    echo "$stamp" >"$installed/node.stamp"
}

# Debian's Go libraries are source trees of the old kind, without modules and without a download.
GO_LIBRARIES=/usr/share/gocode

# setup_go PROGRAM LIBRARY PACKAGE
setup_go() {
    local program=$1 library=$2 package=$3 stamp
    if ! command -v go >/dev/null || [ ! -d "$GO_LIBRARIES/src/github.com/$library" ]; then
        packages_for "Go with $library" golang-go "$package" || return 1
    fi
    stamp=$(stamp "$sources/go/matrix.go" "$sources/go/$program.go" <(go version))
    if is_current "$program" "$stamp" && [ -x "$installed/bin/$program" ]; then return 0; fi
    echo "building $program"
    mkdir -p "$installed/bin"
    GO111MODULE=off GOPATH=$GO_LIBRARIES GOCACHE=$installed/go-cache GOFLAGS='' CGO_ENABLED=0 \
        go build -o "$installed/bin/$program" "$sources/go/matrix.go" "$sources/go/$program.go" || return 1
    echo "$stamp" >"$installed/$program.stamp"
}

missing=

# attempt DRIVERS COMMAND...: DRIVERS is a comma separated list of those that are lost if the command fails.
attempt() {
    local driver drivers=$1 needed=
    shift
    for driver in ${drivers//,/ }; do
        if wanted "$driver"; then needed="$needed $driver"; fi
    done
    [ -n "$needed" ] || return 0
    "$@" || missing="$missing$needed"
}

attempt psycopg,asyncpg setup_python
attempt node-postgres,postgres-js setup_node
attempt lib-pq setup_go driver_lib_pq lib/pq golang-github-lib-pq-dev
attempt pgx setup_go driver_pgx jackc/pgx golang-github-jackc-pgx-v4-dev

if [ -n "$missing" ]; then
    # The test run reports them as failed; it, not this script, decides.
    echo "drivers that could not be installed:$missing" >&2
    echo "to test without them: PGCORRAL_SKIP_DRIVERS=$(echo "$missing" | xargs | tr ' ' ',')" >&2
fi
