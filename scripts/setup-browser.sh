#!/bin/sh
# Makes sure that the browser is installed that the tests of the live page drive: Chromium, and its driver.
# Does nothing if both are there.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=scripts/packages.sh
. "$here/packages.sh"

has_browser() {
    command -v chromedriver >/dev/null || return 1
    for browser in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$browser" >/dev/null && return 0
    done
    return 1
}

has_browser && exit 0
if ! command -v apt-get >/dev/null; then
    echo "no Chromium with its driver found; please install both (brew install chromium chromedriver, ...)" >&2
    exit 1
fi
install_packages "a browser for the tests of the live page" chromium chromium-driver
has_browser || { echo "the packages were installed, but no Chromium with its driver was found" >&2; exit 1; }
