# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of every launch file that is the same for all VMs: POSIX sh. C(launchfile.render) puts the VM's own part before it.

What it must get right: whatever step it is killed at, C(ended) (or the next start) clears up; root follows no link that the VM's uid could have
made; every word is quoted. It runs with C(set -euf): a failing step ends it, and the text in C($step) says which one it was.

A program that the shell starts costs more than all that the shell does itself, and a thousand VMs start at once: what builtins can do, they do.
"""

from __future__ import annotations

from .launch_ending import ENDED, STOP
from .launch_sandbox import SANDBOX
from .launch_supervise import SUPERVISE
from .launch_taps import REMOVE_TAPS, TAPS

# Comes first in a launch file, so that what is of no use to anybody ends before the rest is read.
HEAD = r"""
now() { date -u +%Y-%m-%dT%H:%M:%S.%3NZ; }

# Whole seconds, cut off: a deadline gets one more, so as never to come early.
uptime_s() { read -r up _ < /proc/uptime; up=${up%.*}; }

# Sets stat to the fields of /proc/$1/stat from the third on; its name may contain anything: the last ') ' ends it. No process is made for it.
read_stat() {
    stat=''
    { while read -r line; do stat=$stat$line; done < "/proc/$1/stat"; } 2>/dev/null
    stat=${stat##*) }
}

# The process named by $1 with start time $2 (empty: any) is there and no zombie.
alive() {
    read_stat "$1" || return 1
    set -- "$2" $stat
    case ${2-} in ''|Z|X|x) return 1 ;; esac
    [ -z "$1" ] || [ "$1" = "${21}" ]
}

# Sets pid, start_time, boot_id, host_boot_id of the recorded process; false when none is recorded.
recorded() {
    pid='' start_time='' boot_id='' host_boot_id=''
    [ -f "$run/pid" ] && read -r pid start_time boot_id host_boot_id _ < "$run/pid" && [ -n "$host_boot_id" ]
}

running() {
    recorded || return 1
    read -r this_boot < /proc/sys/kernel/random/boot_id
    [ "$host_boot_id" = "$this_boot" ] && alive "$pid" "$start_time"
}

fail() {
    trap - EXIT
    [ ! -d "$run" ] || printf '%s\n' "$*" > "$run/problem"
    printf '%s: %s\n' "$name" "$*" >&2
    exit 1
}

# event NAME FIELDS [TIME]: FIELDS is JSON text that starts with a comma, or empty.
record() {
    printf '{"event":"%s","at":"%s","boot_id":"%s","host_boot_id":"%s"%s}\n' "$1" "${3:-$(now)}" "$boot_id" "$host_boot_id" "$2" >> "$dir/events.jsonl"
}

# By a task that is there: it clears up, and nobody is to read how the VM ended.
being_removed() {
    [ -f "$run/stopping" ] && { read -r _ by by_start && read -r what; } < "$run/stopping" && [ "$what" = removing ] && alive "$by" "$by_start"
}
case ${1-} in
    stop|ended) if being_removed; then exit 0; fi ;;
esac
"""

_RUN = r"""
# Slave: what the host mounts and unmounts later is seen, nothing of ours is seen by the host. The pid stays the same.
private() { # verb...
    [ -z "$uid" ] || exec unshare --mount --propagation slave -- /bin/sh "$dir/launch" "$@"
    exec /bin/sh "$dir/launch" "$@"
}

# What follows this file (C(following)) and did not get its name, because power was lost or a task was killed. A task may be about to do the same.
settle() {
    for file in $beside; do
        place=$dir/$file
        [ ! -e "$place.follows-$follows" ] || mv -f -- "$place.follows-$follows" "$place" || [ ! -e "$place.follows-$follows" ]
    done
}

run_vmm() {
    step='make the run-time directories'
    trap 'fail "The VMM was not started: could not $step. See the end of $dir/vmm.log"' EXIT
    [ -d "$run_root" ] || (umask 022 && mkdir -p -- "$run_root")
    [ -d "$run" ] || mkdir -m 0711 -- "$run"
    if running; then trap - EXIT; echo "$name: runs already as process $pid" >&2; exit 1; fi
    step='give the last change its names'
    [ -z "$follows" ] || settle
    exec </dev/null >> "$dir/vmm.log" 2>&1
    step='clear up after the last run'
    if [ -e "$run/pid" ] || [ -e "$run/taps" ] || [ -e "$run/limits" ] || [ -e "$dir/granted" ]; then clear_up; rm -f -- "$run/pid"; fi
    # What a task kept of the process that ran before it changed the definition: this one is started from what is there now.
    if [ -e "$dir/launch.running" ] || [ -e "$dir/booted.json" ]; then rm -rf -- "$dir/launch.running" "$dir/booted.json"; fi
    [ ! -e "$run/problem" ] || rm -f -- "$run/problem"
    begin_console
    if [ -d "$run/vmm" ]; then :
    elif [ -n "$uid" ]; then install -d -m 0700 -o "$uid" -g "$uid" -- "$run/vmm"
    else mkdir -m 0700 -- "$run/vmm"
    fi
    ulimit -c 0
    ulimit -n 65536 2>/dev/null || :
    cd -- "$run"
    before_start
    vmm_taps
    if [ -n "$uid" ]; then open_sandbox; open_macvtaps; else vmm_seeds; fi
    step="run $binary"
    [ -x "$binary" ] || fail "$binary is missing or not executable. Install that version again, or set backend_version with state=restarted."
    say_who_runs
    trap - EXIT
    exec_vmm
}

begin_console() {
    if [ "$console" = "$dir/console.log" ]; then
        [ ! -L "$console" ] || rm -f -- "$console"
        [ ! -e "$console" ] || mv -f -- "$console" "$dir/console.previous.log"
    else
        # A file of the user's: appended to. By the link in our own directory the log trimmer finds it.
        ln -sfn -- "$console" "$dir/console.log"
    fi
}

# The event first: with the pid file, others go on. The fifth word says who sees to the rest of the start: a process of ours ('self'), or whoever asked
# for it and watches, until the socket named there is made ('-': at once).
say_who_runs() {
    read -r boot_id < /proc/sys/kernel/random/uuid
    read -r host_boot_id < /proc/sys/kernel/random/boot_id
    # Not $$, which is the parent's in a subshell.
    read -r self _ < /proc/self/stat
    read_stat "$self"
    set -- $stat
    started=${20} rest=self asked_at=''
    if [ -e "$run/watched" ]; then
        # When the task asked for it: a clock of our own would be a program.
        read -r asked_at < "$run/watched" || :
        has_after_start || rest=${wait_socket:--}
    fi
    record start '' "$asked_at"
    # One write: whoever reads it has all of it or nothing.
    printf '%s %s %s %s %s\n' "$self" "$started" "$boot_id" "$host_boot_id" "$rest" > "$run/pid"
    # A child of nobody's: the VMM, which this process is about to be, would not wait for it.
    [ "$rest" != self ] || ( boot_vmm 9>&- & )
}
"""

_BOOT = r"""
# Beside the VMM, outside its sandbox: waits for its socket and gives it what it needs to boot. Knows what say_who_runs set.
boot_vmm() {
    trap - EXIT
    uptime_s
    deadline=$(( up + start_timeout_s + 1 )) dead=''
    # A guest may be through before we look (a function VM): a socket that is there is enough.
    until [ -z "$wait_socket" ] || [ -S "$wait_socket" ]; do
        not_yet "has not made its socket $wait_socket"
    done
    after_start
    # The jailer needs an umask for its directories, Cloud Hypervisor sets its own, and makes more sockets when it boots. By the VM's uid, since root would
    # follow what that plants. A guest that is through may have taken them along.
    [ -z "$wait_socket" ] || ${uid:+as_vm} find "$run/vmm" -type s -exec chmod 0600 -- {} + || :
    record boot ''
    : > "$run/up"
}

# Called while something is missing. A process found dead is given another look: it may have done it and ended between the two.
not_yet() {
    [ -z "$dead" ] || give_up 'The VMM ended before it was ready.'
    alive "$self" "$started" || { dead=yes; return 0; }
    uptime_s
    [ "$up" -lt "$deadline" ] || give_up "The VMM $1 within $start_timeout_s s."
    sleep 0.01
}

give_up() {
    printf '%s\n' "$*" > "$run/problem"
    if alive "$self" "$started"; then kill -KILL "$self" 2>/dev/null || :; fi
    fail "$*"
}

after() { # a command of after_start
    uptime_s
    left=$(( deadline - up ))
    [ "$left" -gt 0 ] || left=1
    if [ -n "$uid" ]; then as=as_vm; else as=''; fi
    $as timeout -k 1 "$left" "$@" >> "$dir/vmm.log" 2>&1 || give_up "Starting the guest failed (code $?): $1 ${2-} ${3-} ${4-}"
}
"""

_VERBS = r"""
# What runs was started by the file that was here before it was written anew: its own end is there.
case ${1-} in
    stop|ended|clear) if [ "$0" = "$dir/launch" ] && [ -e "$0.running" ]; then exec /bin/sh "$0.running" "$@"; fi ;;
esac
case ${1-} in
    run) private inside ;;
    inside) run_vmm ;;
    settle) settle ;;
    supervise) supervise "${2-}" "${3-}" ;;
    stop) stop_vmm ;;
    ended) ended "${2-plain}" ;;
    clear) running || { clear_up; rm -f -- "$run/pid"; } ;;
    *) echo "usage: $0 run|supervise|stop|ended|clear" >&2; exit 2 ;;
esac
"""

BODY = _RUN + TAPS + SANDBOX + _BOOT + STOP + ENDED + REMOVE_TAPS + SUPERVISE + _VERBS
