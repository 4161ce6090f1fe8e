# Installing packages of the system, as root or through sudo. Sourced by the set-up scripts, never run.

# install_packages WHY PACKAGE...: installs what is not installed yet; ends the script with a clear message if it cannot.
install_packages() {
    why=$1
    shift
    missing=
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -eq 0 ]; then
        as_root=
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        as_root=sudo
    elif command -v sudo >/dev/null && [ -t 0 ]; then
        as_root=sudo
    else
        echo "$why is missing, and installing it needs root. Please run:" >&2
        echo "    apt-get install -y --no-install-recommends$missing" >&2
        exit 1
    fi
    echo "installing$missing ($why)"
    # shellcheck disable=SC2086 # one word per package
    $as_root apt-get update -q >/dev/null || true
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing >/dev/null
}
