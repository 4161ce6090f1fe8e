#!/bin/bash
# Makes sure that what the tests of the dashboards and rules need is there: Prometheus with promtool, and in target/dashboards a
# Python environment with Grafana's schema. Prometheus' own service is not started. Quick when nothing is missing.
set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=scripts/packages.sh
. "$here/packages.sh"

setup_prometheus() {
    if command -v prometheus >/dev/null && command -v promtool >/dev/null; then return 0; fi
    command -v apt-get >/dev/null || { echo "please install prometheus and promtool" >&2; exit 1; }
    # Debian starts what it installs, which would collect metrics of its own from now on: it is told not to, for as long as it
    # installs.
    local policy=/usr/sbin/policy-rc.d
    if may_be_root && [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod +x "$policy"
        # shellcheck disable=SC2064 # the path as it is now
        trap "as_root rm -f '$policy'" EXIT
    fi
    install_packages "Prometheus" prometheus
}

setup_schema() {
    if ! python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        command -v apt-get >/dev/null || { echo "please install Python 3.11 with venv" >&2; exit 1; }
        install_packages "Python with venv" python3 python3-venv
    fi
    local wanted=$here/../dashboards/requirements.txt installed=$here/../target/dashboards
    # An environment cannot be moved, so its place counts, too.
    local stamp
    stamp=$({ realpath -m "$installed"; python3 --version; cat "$wanted"; } | cksum)
    if [ "$(cat "$installed/stamp" 2>/dev/null)" = "$stamp" ]; then return 0; fi
    echo "installing Grafana's schema"
    rm -rf "$installed"
    mkdir -p "$installed"
    python3 -m venv "$installed/venv"
    "$installed/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps \
        --only-binary :all: -r "$wanted"
    echo "$stamp" >"$installed/stamp"
}

setup_prometheus
setup_schema
