# Installing packages of the system, as root or through sudo. Sourced by the set-up scripts, never run.

# as_root COMMAND...: runs it as root, through sudo if need be.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

may_be_root() {
    [ "$(id -u)" -eq 0 ] && return 0
    command -v sudo >/dev/null || return 1
    sudo -n true 2>/dev/null || [ -t 0 ] # a terminal can be asked for the password
}

# install_packages WHY PACKAGE...: installs what is not installed yet; ends the script with a clear message if it cannot.
install_packages() {
    why=$1
    shift
    missing=
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if ! may_be_root; then
        echo "$why is missing, and installing it needs root. Please run:" >&2
        echo "    apt-get install -y --no-install-recommends$missing" >&2
        exit 1
    fi
    echo "installing$missing ($why)"
    as_root apt-get update -q >/dev/null || true # a stale list may do
    # shellcheck disable=SC2086 # one word per package
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing >/dev/null
}
