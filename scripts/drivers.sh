# Installing drivers into one folder: what setup-drivers.sh and setup-functions.sh share. Sourced by them, never run.
#
# Nothing is written outside target/ but packages of the system, and only if they are missing. PGCORRAL_SKIP_DRIVERS
# (comma separated) lists drivers that are not wanted.

# shellcheck source=scripts/packages.sh
. "$here/packages.sh"

driver_sources=$here/../tests/drivers
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

# setup_venv PART ENVIRONMENT: a Python environment with what tests/drivers/PART/requirements.txt lists.
setup_venv() {
    python_is_there || packages_for "Python with venv" python3 python3-venv || return 1
    local part=$1 environment=$installed/$2 stamp
    stamp=$(stamp "$driver_sources/$part/requirements.txt" <(python3 --version))
    if is_current "$part" "$stamp" && [ -x "$environment/bin/python" ]; then return 0; fi
    echo "installing for Python: $part"
    rm -rf "$environment"
    python3 -m venv "$environment" || return 1
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps \
        --only-binary :all: -r "$driver_sources/$part/requirements.txt" || return 1
    echo "$stamp" >"$installed/$part.stamp"
}

setup_python() {
    setup_venv python venv
}

setup_node() {
    command -v node >/dev/null && command -v npm >/dev/null || packages_for "Node.js with npm" nodejs npm || return 1
    local stamp
    stamp=$(stamp "$driver_sources/node/package.json" "$driver_sources/node/package-lock.json" <(node --version))
    if is_current node "$stamp" && [ -d "$installed/node/node_modules" ]; then return 0; fi
    echo "installing the Node.js drivers"
    mkdir -p "$installed/node"
    cp "$driver_sources/node/package.json" "$driver_sources/node/package-lock.json" "$installed/node/"
    (cd "$installed/node" && npm_config_cache=$installed/npm-cache npm_config_update_notifier=false \
        npm ci --loglevel=error --ignore-scripts --no-audit --no-fund --omit-lockfile-registry-resolved) || return 1
    rm -rf "$installed/npm-cache"
    echo "$stamp" >"$installed/node.stamp"
}

# Debian's Go libraries are source trees of the old kind, without modules and without a download.
GO_LIBRARIES=/usr/share/gocode

# setup_go DIRECTORY PROGRAM LIBRARY PACKAGE SOURCE...: builds DIRECTORY/PROGRAM from Go sources that use LIBRARY.
setup_go() {
    local directory=$1 program=$2 library=$3 package=$4 copies=$installed/go-sources/$2 stamp
    shift 4
    if ! command -v go >/dev/null || [ ! -d "$GO_LIBRARIES/src/github.com/$library" ]; then
        packages_for "Go with $library" golang-go "$package" || return 1
    fi
    stamp=$(stamp "$@" <(go version))
    if is_current "$program" "$stamp" && [ -x "$directory/$program" ]; then return 0; fi
    echo "building $program"
    # Go wants all files of a program in one directory.
    rm -rf "$copies"
    mkdir -p "$directory" "$copies"
    cp "$@" "$copies/"
    GO111MODULE=off GOPATH=$GO_LIBRARIES GOCACHE=$installed/go-cache GOFLAGS='' CGO_ENABLED=0 \
        go build -o "$directory/$program" "$copies"/*.go || return 1
    echo "$stamp" >"$installed/$program.stamp"
}

# setup_rust SOURCES PROGRAM...: builds programs of a cargo project that is no part of the workspace.
setup_rust() {
    local sources=$1 program stamp
    shift
    if ! command -v pg_config >/dev/null || ! [ -e "$(pg_config --includedir)/libpq-fe.h" ]; then
        packages_for "libpq for Diesel" libpq-dev || return 1
    fi
    stamp=$(stamp "$sources/Cargo.toml" "$sources/Cargo.lock" "$sources"/src/*.rs "$sources"/src/bin/*.rs \
        <("${CARGO:-cargo}" --version))
    if is_current rust "$stamp" && [ -x "$installed/bin/$1" ]; then return 0; fi
    echo "building the Rust drivers"
    mkdir -p "$installed/bin"
    (cd "$sources" && CARGO_TARGET_DIR=$installed/rust "${CARGO:-cargo}" build --quiet --locked) || return 1
    for program in "$@"; do
        cp "$installed/rust/debug/$program" "$installed/bin/" || return 1
    done
    echo "$stamp" >"$installed/rust.stamp"
}

# Debian's jar of pgjdbc; tests/drivers/defaults/run.py has the same.
JDBC=/usr/share/java/postgresql.jar

# setup_java NAME SOURCE...: compiles a program that uses pgjdbc to the folder NAME.
setup_java() {
    local name=$1
    shift
    if ! command -v javac >/dev/null || [ ! -e "$JDBC" ]; then
        packages_for "Java with pgjdbc" default-jdk-headless libpostgresql-jdbc-java || return 1
    fi
    local stamp
    stamp=$(stamp "$@" "$JDBC" <(javac -version 2>&1))
    if is_current "$name" "$stamp" && [ -d "$installed/$name" ]; then return 0; fi
    echo "building $(basename "$1" .java)"
    rm -rf "${installed:?}/$name"
    javac -Xlint:all -encoding UTF-8 -cp "$JDBC" -d "$installed/$name" "$@" || return 1
    echo "$stamp" >"$installed/$name.stamp"
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

# report_missing WHAT: what could not be installed, and how to do without.
report_missing() {
    [ -n "$missing" ] || return 0
    # The test run reports them as failed; it, not this script, decides.
    echo "$1 that could not be installed:$missing" >&2
    echo "to test without them: PGCORRAL_SKIP_DRIVERS=$(echo "$missing" | xargs | tr ' ' ',')" >&2
}
