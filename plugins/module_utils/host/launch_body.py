# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of every launch file that is the same for all VMs: POSIX sh. C(launchfile.render) puts the VM's own part before it.

What it must get right: whatever step it is killed at, C(ended) (or the next C(run)) clears up; root follows no link that the VM's uid could have
made; every word is quoted. It runs with C(set -euf): a failing step ends it, and the text in C($step) says which one it was.
"""

from __future__ import annotations

from .launch_ending import ENDED, STOP, TRIM_FUNCTION
from .launch_sandbox import SANDBOX

_COMMON = r"""
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
    [ -f "$run/pid" ] && read -r pid start_time boot_id host_boot_id < "$run/pid" && [ -n "$host_boot_id" ]
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

# event NAME FIELDS: FIELDS is JSON text that starts with a comma, or empty.
record() {
    printf '{"event":"%s","at":"%s","boot_id":"%s","host_boot_id":"%s"%s}\n' "$1" "$(now)" "$boot_id" "$host_boot_id" "$2" >> "$dir/events.jsonl"
}
"""

_RUN = r"""
in_private_mounts() {
    # Slave: what the host mounts and unmounts later is seen, nothing of ours is seen by the host. The pid stays the same.
    [ -z "$uid" ] || exec unshare --mount --propagation slave -- /bin/sh "$dir/launch" inside
    run_vmm
}

run_vmm() {
    step='make the run-time directories'
    trap 'fail "The VMM was not started: could not $step. See the end of $dir/vmm.log"' EXIT
    [ -d "$run_root" ] || (umask 022 && mkdir -p -- "$run_root")
    [ -d "$run" ] || mkdir -m 0711 -- "$run"
    # Until this process is the VMM: the 'run' of a supervisor that was killed may still be on its way.
    exec 8>> "$run/launch.lock"
    flock --timeout "$start_timeout_s" 8
    if running; then trap - EXIT; echo "$name: runs already as process $pid" >&2; exit 1; fi
    rotate_logs
    exec </dev/null >> "$dir/vmm.log" 2>&1
    step='clear up after the last run'
    clear_up
    [ ! -e "$run/problem" ] || rm -f -- "$run/problem"
    if [ -n "$uid" ]; then
        install -d -m 0700 -o "$uid" -g "$uid" -- "$run/vmm"
    else
        mkdir -m 0700 -- "$run/vmm"
    fi
    cp -- "$dir/vm.json" "$run/booted.json"
    ulimit -c 0
    ulimit -n 65536 2>/dev/null || :
    cd -- "$run"
    vmm_taps
    if [ -n "$uid" ]; then open_sandbox; else vmm_seeds; fi
    step="run $binary"
    [ -x "$binary" ] || fail "$binary is missing or not executable. Install that version again, or set backend_version with state=restarted."
    say_who_runs
    trap - EXIT
    exec 8>&-
    exec_vmm
}

rotate_logs() {
    if [ "$console" = "$dir/console.log" ]; then
        [ ! -L "$console" ] || rm -f -- "$console"
        [ ! -e "$console" ] || mv -f -- "$console" "$dir/console.previous.log"
    else
        # A file of the user's: appended to. By the link in our own directory the log trimmer finds it.
        ln -sfn -- "$console" "$dir/console.log"
    fi
    [ -e "$dir/events.jsonl" ] || : >> "$dir/events.jsonl"
    [ -e "$dir/vmm.log" ] || : >> "$dir/vmm.log"
    # shellcheck disable=SC2046 # two numbers
    set -- $(stat -c %s -- "$dir/vmm.log" "$dir/events.jsonl")
    if [ "$1" -gt 65536 ]; then
        tail -c 65536 -- "$dir/vmm.log" > "$dir/vmm.log.new"
        mv -f -- "$dir/vmm.log.new" "$dir/vmm.log"
    fi
    if [ "$2" -gt "$events_max_bytes" ]; then
        tail -n "$events_keep_lines" -- "$dir/events.jsonl" > "$dir/events.new"
        mv -f -- "$dir/events.new" "$dir/events.jsonl"
    fi
}

# The event first: with the pid file, others go on ('boot' writes the next event).
say_who_runs() {
    read -r boot_id < /proc/sys/kernel/random/uuid
    read -r host_boot_id < /proc/sys/kernel/random/boot_id
    read_stat "$$"
    set -- $stat
    record start ''
    printf '%s %s %s %s\n' "$$" "${20}" "$boot_id" "$host_boot_id" > "$run/pid.new"
    mv -f -- "$run/pid.new" "$run/pid"
}

tap() { # name, bridge or '', mtu or '', further words for ip tuntap
    step="make the tap $1"
    # Recorded, not taken from the launch file: by the time they are removed that may speak of other taps.
    printf '%s\n' "$1" >> "$run/taps"
    [ ! -e "/sys/class/net/$1" ] || ip link delete dev "$1"
    tap_name=$1 tap_bridge=$2 tap_mtu=$3
    shift 3
    ip tuntap add dev "$tap_name" mode tap ${uid:+user "$uid"} "$@"
    [ -z "$tap_mtu" ] || ip link set dev "$tap_name" mtu "$tap_mtu"
    [ -z "$tap_bridge" ] || { step="put the tap $tap_name on the bridge $tap_bridge"; ip link set dev "$tap_name" master "$tap_bridge"; }
    ip link set dev "$tap_name" up
}
"""

_BOOT = r"""
# Beside the VMM, outside its sandbox: waits for its socket and gives it what it needs to boot. $MAINPID is the VMM's.
boot_vmm() {
    uptime_s
    deadline=$(( up + start_timeout_s + 1 )) dead=''
    until recorded && [ "$pid" = "$MAINPID" ]; do
        not_yet 'was not started'
    done
    cd -- "$run"
    # A guest may be through before we look (a function VM): a socket that is there is enough.
    until [ -z "$wait_socket" ] || [ -S "$wait_socket" ]; do
        not_yet "has not made its socket $wait_socket"
    done
    after_start
    rm -f -- "$run/problem"
    record boot ''
    : > "$run/up"
}

# Called while something is missing. A process found dead is given another look: it may have done it and ended between the two.
not_yet() {
    if [ -n "$dead" ]; then
        [ ! -s "$run/problem" ] || { cat -- "$run/problem" >&2; exit 1; }
        fail "The VMM ended before it was ready."
    fi
    alive "$MAINPID" '' || { dead=yes; return 0; }
    uptime_s
    [ "$up" -lt "$deadline" ] || fail "The VMM $1 within $start_timeout_s s."
    sleep 0.005
}

after() { # a command of after_start
    uptime_s
    left=$(( deadline - up ))
    [ "$left" -gt 0 ] || left=1
    timeout -k 1 "$left" "$@" >> "$dir/vmm.log" 2>&1 || fail "Starting the guest failed (code $?): $1 ${2-} ${3-} ${4-}"
}
"""

_VERBS = r"""
case ${1-} in
    run) in_private_mounts ;;
    inside) run_vmm ;;
    boot) boot_vmm ;;
    stop) stop_vmm ;;
    ended) ended "${2-plain}" ;;
    clear) running || { clear_up; rm -f -- "$run/pid"; } ;;
    trim) trim ;;
    *) echo "usage: $0 run|boot|stop|ended|clear|trim" >&2; exit 2 ;;
esac
"""

BODY = _COMMON + _RUN + SANDBOX + _BOOT + STOP + ENDED + TRIM_FUNCTION + _VERBS
