# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Sourced by ./quickstart and ./test, in the checkout's top directory: what both need to set up on a bare machine. POSIX sh, and no tool
# that Debian's or Ubuntu's minimal system lacks. The caller sets STEPS, the number of its steps, before the first 'step'.

STEP=0
STEPS=${STEPS:-1}

step() {
    STEP=$((STEP + 1))
    printf '\n[%s/%s] %s\n' "$STEP" "$STEPS" "$*"
}

say() {
    printf '      %s\n' "$*"
}

die() {
    printf '\n%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Ansible refuses to run in a locale that is not UTF-8, and a bare machine has none set.
use_utf8() {
    case "${LC_ALL:-${LC_CTYPE:-${LANG:-}}}" in
        *[Uu][Tt][Ff]8 | *[Uu][Tt][Ff]-8) ;;
        *)
            LC_ALL=C.UTF-8
            export LC_ALL
            ;;
    esac
}

may_be_root() {
    [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null 2>&1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

is_package_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# apt_install PACKAGE...: installs those that are missing; asks for nothing and waits for another apt that runs.
apt_install() {
    missing=
    for package in "$@"; do
        is_package_installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null 2>&1 || die "this machine has no apt-get; install the equivalents of$missing by hand and run this again."
    may_be_root || die "the Debian packages$missing are missing; install them, or run this as root or with sudo installed."
    say "installing Debian packages:$missing"
    mkdir -p .cache
    # Unquoted on purpose: a list of words.
    # shellcheck disable=SC2086
    set -- $missing
    {
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 update &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
    } >.cache/apt.log 2>&1 </dev/null || {
        tail -n 15 .cache/apt.log >&2
        die "apt-get could not install$missing (its last lines are above, all of them in .cache/apt.log)."
    }
}

# Sets PYTHON to the first interpreter that is new enough; the caller's own PYTHON comes first.
find_python() {
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.10; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            PYTHON=$(command -v "$candidate")
            return 0
        fi
    done
    die "no Python 3.10 or newer was found; install one (Debian 12, Ubuntu 22.04 and newer have it as python3) or name it: PYTHON=/path/to/python3 $0"
}

# make_venv REQUIREMENTS...: .venv with these files installed. Does nothing where that is done, with the same Python and the same files.
make_venv() {
    version=$("$PYTHON" -c 'import sys; print(sys.version)')
    if [ "$(cat .venv/.python 2>/dev/null)" != "$version" ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        # Debian keeps the part of Python that makes virtual environments in a package of its own.
        "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
        say "making .venv with $("$PYTHON" --version)"
        rm -rf .venv
        "$PYTHON" -m venv .venv || die "$PYTHON could not make a virtual environment in .venv (see above)."
        printf '%s\n' "$version" >.venv/.python
    fi
    for file in "$@"; do
        stamp=.venv/.installed-$file
        wanted=$(cat requirements*.txt | cksum)
        if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
            say "$file: installed already"
            continue
        fi
        say "$file: installing (a minute or two)"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --progress-bar off --requirement "$file" ||
            die "pip could not install $file (see above); is the package index reachable?"
        printf '%s\n' "$wanted" >"$stamp"
    done
}

# The checkout as a collection: ansible.cfg looks for collections here.
link_collection() {
    mkdir -p ansible_collections/unkey
    [ -L ansible_collections/unkey/vmcp ] || ln -s ../.. ansible_collections/unkey/vmcp
}
