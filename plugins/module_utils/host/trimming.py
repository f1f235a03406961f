# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bounds the logs of all VMs below one directory: one script for the host, not a process for each VM. Pure, standard library only."""

from __future__ import annotations

import shlex

# Holes keep offsets valid for readers and for the VMM, which appends. Where the file system cannot punch holes the file is emptied: bounded counts
# more than the last lines.
_TRIM = r"""
trim_log() { # path, allocated 512-byte blocks, size
    [ $(( $2 * 512 )) -gt "$max" ] || return 0
    cut=$(( ($3 - max / 2) / 4096 * 4096 ))
    [ "$cut" -gt 0 ] || return 0
    fallocate --punch-hole --offset 0 --length "$cut" -- "$1" 2>/dev/null || : > "$1"
}

# A console.log that is a link names a file of the user's choice; the directories are root's, and 'data' is not entered.
trim_all() {
    find -L "$vms" -mindepth 2 -maxdepth 2 -type f '(' -name console.log -o -name vmm.log ')' -size "+$(( max / 1024 ))k" -printf '%b %s %p\n' 2>/dev/null |
    while read -r blocks size path; do
        trim_log "$path" "$blocks" "$size"
    done
}
"""

# Ends when no VM has run for two rounds, and looks once more after it has let go of the lock: a VM that was started meanwhile found it held.
_LOOP = r"""
some_run() {
    set +f
    for file in "$run"/*/pid; do
        # One of a VMM that was killed with its supervisor stays until a task looks at the VM.
        if [ -e "$file" ] && read -r pid _ < "$file" && [ -d "/proc/$pid" ]; then set -f; return 0; fi
    done
    set -f
    return 1
}

# Who has the lock, in the form of a VM's pid file.
read -r line < "/proc/$$/stat"
read -r boot < /proc/sys/kernel/random/boot_id
set -- ${line##*) }
printf '%s %s - %s\n' "$$" "${20}" "$boot" > "$lock"

idle=0
while :; do
    sleep "$interval"
    trim_all
    if some_run; then idle=0; continue; fi
    idle=$(( idle + 1 ))
    [ "$idle" -ge 2 ] || continue
    exec 9>&-
    some_run || exit 0
    exec 9>> "$lock"
    flock --nonblock 9 || exit 0
    idle=0
done
"""


def once(vms: str, max_bytes: int) -> str:
    """A script that goes through all logs once, for a timer."""
    return _head(vms, max_bytes) + _TRIM + "\ntrim_all\n"


def loop(vms: str, run_dir: str, lock: str, max_bytes: int, interval_s: int) -> str:
    """A script that does it again and again while any VM runs. Descriptor 9 has its lock, the file C(lock)."""
    return _head(vms, max_bytes) + f"run={shlex.quote(run_dir)} lock={shlex.quote(lock)} interval={interval_s}\n" + _TRIM + _LOOP


def _head(vms: str, max_bytes: int) -> str:
    return f"""#!/bin/sh
# Written by unkey.vmcp; changes are overwritten. Bounds the logs of all VMs.
set -uf
umask 077
vms={shlex.quote(vms)} max={max_bytes}
"""
