# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of every launch file that is the same for all VMs: POSIX sh. C(launchfile.render) puts the VM's own part before it.

What it must get right: whatever step it is killed at, C(ended) (or the next C(run)) clears up; root follows no link that the VM's uid could have
made; every word is quoted. It runs with C(set -euf): a failing step ends it, and the text in C($step) says which one it was.
"""

from __future__ import annotations

# Shared with the host-wide trimmer of the systemd supervisor. Holes keep offsets valid for readers and for the VMM, which appends. Where the
# file system cannot punch holes the file is emptied: bounded counts more than the last lines.
TRIM_FUNCTION = r"""
trim_log() { # path, most bytes, allocated 512-byte blocks, size
    [ $(( $3 * 512 )) -gt "$2" ] || return 0
    cut=$(( ($4 - $2 / 2) / 4096 * 4096 ))
    [ "$cut" -gt 0 ] || return 0
    fallocate --punch-hole --offset 0 --length "$cut" -- "$1" 2>/dev/null || : > "$1"
}
"""

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

_SANDBOX = r"""
seed() { # path, file to make it from: without a sandbox
    step="make $1 from $2"
    [ -e "$1" ] || { cp -- "$2" "$1.new" && mv -- "$1.new" "$1"; }
}

# Everything mounted from here on is in the private mount namespace, and vanishes with it.
open_sandbox() {
    step='mount the sandbox'
    groups=''
    if [ -n "$jailer" ]; then
        mkdir -p -m 0711 -- "$run/jail"
        mount -t tmpfs -o mode=0711,size=512m,nosuid vmcp "$run/jail"
        # The jailer makes what is missing of this path itself; it must be there for the mounts.
        jail_root=$run/jail/${binary##*/}/$name/root
        umask 066
        mkdir -p -- "$jail_root/files" "$jail_root/vmm"
        umask 077
        mount -o bind "$run/vmm" "$jail_root/vmm"
        files=$jail_root/files
    else
        mkdir -p -m 0711 -- "$run/files"
        mount -t tmpfs -o mode=0711,size=64m,nosuid vmcp "$run/files"
        files=$run/files
    fi
    vmm_files
    [ -n "$jailer" ] || vmm_devices
}

as_vm() { setpriv --reuid "$uid" --regid "$uid" --clear-groups --inh-caps=-all -- "$@"; }

expose() { # alias, path, ro or rw: a file of the host's
    step="give the VM the file $2"
    if [ -b "$2" ]; then
        case $3 in rw) mode=0600 ;; *) mode=0400 ;; esac
        # shellcheck disable=SC2046 # two numbers
        mknod -m "$mode" -- "$files/$1" b $(stat -L -c '0x%t 0x%T' -- "$2")
        chown "$uid:$uid" -- "$files/$1"
    elif [ -f "$2" ] || [ -S "$2" ]; then
        : > "$files/$1"
        mount -o "bind,$3" -- "$2" "$files/$1"
        allow "$files/$1" "$2" "$3"
    elif [ -e "$2" ]; then
        fail "$2 is neither a file, a block device nor a socket, so it cannot be given to a VM."
    else
        fail "$2 is not there. Create it, or correct the VM's configuration."
    fi
}

# Looks at the mounted file, not at its path: what was mounted cannot be exchanged any more.
allow() { # mounted file, path, ro or rw
    case $3 in
        rw) as_vm test -r "$1" -a -w "$1" && return 0; rights=rw ;;
        *) as_vm test -r "$1" && return 0; rights=r ;;
    esac
    command -v setfacl > /dev/null || fail "uid $uid may not open $2, and setfacl is missing to allow it. Install the package 'acl', or change the file's mode."
    printf '%s %s %s\n' "$(stat -c '%d:%i' -- "$1")" "$uid" "$2" >> "$dir/granted"
    # A read-only bind mount refuses it: through the path then, which names the same file.
    setfacl -m "u:$uid:$rights" -- "$1" 2>/dev/null || setfacl -m "u:$uid:$rights" -- "$2" ||
        fail "uid $uid may not open $2, and its file system takes no access list. Change the file's mode or owner, or move it to another file system."
}

own() { # alias, path below data/, file to make it from or '': the VM's uid resolves it with its own rights, in a link that root never follows
    step="give the VM its file $2"
    if [ ! -d "$files/+data" ]; then
        mkdir -m 0711 -- "$files/+data"
        mount -o bind,nosuid,nodev,noexec -- "$dir/data" "$files/+data"
    fi
    ln -s -- "+data/$2" "$files/$1"
    if [ -n "$3" ] && ! as_vm test -e "$files/+data/$2"; then
        [ -r "$3" ] || fail "$3 is not there to make the VM's file $2 from. Install the package that has it, or correct the VM's configuration."
        # Read by root, written by the VM's uid.
        as_vm dd "of=$files/+data/$2.new" status=none < "$3"
        as_vm mv -- "$files/+data/$2.new" "$files/+data/$2"
    fi
}

document() { # alias, file name: a copy that the VM's uid may read
    step="give the VM its document $2"
    install -m 0400 -o "$uid" -g "$uid" -- "$dir/$2" "$files/$1"
}

log_file() { # alias: the VMM's own log, for a VMM that cannot write it to stderr
    step='give the VM its log'
    : >> "$dir/vmm.log"
    chown "$uid:$uid" -- "$dir/vmm.log"
    : > "$files/$1"
    mount -o bind -- "$dir/vmm.log" "$files/$1"
}

device() { # path
    step="give the VM the device $1"
    [ -c "$1" ] || fail "$1 is not there. Load its kernel module, or see vmcp_host_info."
    set -- "$1" $(stat -L -c '%a %g 0x%t 0x%T' -- "$1")
    case $2 in *[67]) return 0 ;; esac
    case $2 in *[67]?) if [ "$3" -ne 0 ]; then groups=${groups:+$groups,}$3; return 0; fi ;; esac
    # Root's alone: a node of the VM's own lies over it, in its mount namespace only.
    node=$files/+dev${1##*/}
    mknod -m 0600 -- "$node" c "$4" "$5"
    chown "$uid:$uid" -- "$node"
    mount -o bind -- "$node" "$1"
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

_STOP = r"""
# For a stop that no task makes: systemctl stop, or the host going down.
stop_vmm() {
    running || exit 0
    if [ ! -e "$run/stopping" ]; then
        reason=request
        [ "$(systemctl is-system-running 2>/dev/null)" != stopping ] || reason=host
        printf '%s\n' "$reason" > "$run/stopping"
    fi
    cd -- "$run"
    if [ "$grace_s" -gt 0 ] && can_ask_to_stop; then
        ask_to_stop >> "$dir/vmm.log" 2>&1 || :
        wait_gone "$grace_s"
    fi
    kill -TERM "$pid" 2>/dev/null || :
    wait_gone 5
    kill -KILL "$pid" 2>/dev/null || :
}

wait_gone() { # seconds; ends the script when the process is gone
    uptime_s
    deadline=$(( up + $1 + 1 ))
    while uptime_s; [ "$up" -lt "$deadline" ]; do
        alive "$pid" "$start_time" || exit 0
        sleep 0.1
    done
}
"""

_ENDED = r"""
# After the process: $EXIT_CODE (exited, killed, dumped, or unknown) and $EXIT_STATUS (a number, or a signal's name without SIG).
ended() { # systemd or plain
    if running; then exit 0; fi
    was_up=no
    [ ! -e "$run/up" ] || was_up=yes
    reason=''
    if recorded; then
        end_reason
        # A run of this verb that was killed has recorded it already.
        case $(tail -n 1 -- "$dir/events.jsonl" 2>/dev/null) in
            *'"event":"exit"'*"$boot_id"*) ;;
            *) record exit ",\"reason\":\"$reason\",\"code\":$code,\"signal\":$signal" ;;
        esac
    fi
    clear_up
    rm -f -- "$run/pid"
    if [ "$was_up" = yes ] && wants_restart && restarts_left; then
        case $1 in
            systemd) systemctl --no-block start "vmcp-vm@$name.service" ;;
            *) exit 3 ;;
        esac
    fi
}

end_reason() {
    code=null signal=null reason=crash
    case ${EXIT_CODE-unknown} in
        exited) code=${EXIT_STATUS:-null}; [ "$code" != 0 ] || reason=guest ;;
        killed|dumped) signal="\"SIG$EXIT_STATUS\"" ;;
        *) reason=lost ;;
    esac
    [ ! -s "$run/stopping" ] || read -r asked < "$run/stopping" || :
    case ${asked-} in request|host|restart) reason=$asked ;; esac
}

wants_restart() {
    case $reason in
        guest) [ "$exit_zero_is_reboot" = yes ] && [ "$on_reboot" = restart ] ;;
        crash) [ "$on_crash" = restart ] ;;
        *) false ;;
    esac
}

# Times of restarts within the last hour, one a line.
restarts_left() {
    since=$(( $(date +%s) - 3600 )) count=0
    : > "$dir/restarts.new"
    if [ -f "$dir/restarts" ]; then
        while read -r at; do
            case $at in ''|*[!0-9]*) continue ;; esac
            if [ "$at" -gt "$since" ]; then count=$(( count + 1 )); echo "$at" >> "$dir/restarts.new"; fi
        done < "$dir/restarts"
    fi
    if [ "$count" -ge "$max_per_hour" ]; then
        rm -f -- "$dir/restarts.new"
        record restart_limit ",\"restarts\":$count"
        return 1
    fi
    date +%s >> "$dir/restarts.new"
    mv -f -- "$dir/restarts.new" "$dir/restarts"
}

# Safe at any time when no VMM runs. 'files' and 'jail' are mount points of a namespace that is gone, empty here: rmdir, so that nothing
# that might still be mounted there could ever be deleted.
clear_up() {
    remove_taps
    take_back
    if [ -d "$run/files" ]; then rmdir -- "$run/files" || :; fi
    if [ -d "$run/jail" ]; then rmdir -- "$run/jail" || :; fi
    set -- "$run/stopping" "$run/up" "$run/satisfied.json" "$run/pid.new" "$dir/restarts.new" "$dir/vmm.log.new" "$dir/events.new" "$run/booted.json" "$run/vmm"
    for leftover; do
        if [ -e "$leftover" ]; then rm -rf --one-file-system -- "$@"; break; fi
    done
}

remove_taps() {
    [ -f "$run/taps" ] || return 0
    while read -r tap_name; do
        [ ! -e "/sys/class/net/$tap_name" ] || ip link delete dev "$tap_name" || echo "could not remove the tap $tap_name"
    done < "$run/taps"
    rm -f -- "$run/taps"
}

# Undoes what allow() did, where the path still names the file that it was done to.
take_back() {
    [ -f "$dir/granted" ] || return 0
    while read -r inode who path; do
        [ "$(stat -L -c '%d:%i' -- "$path" 2>/dev/null)" = "$inode" ] || continue
        setfacl -x "u:$who" -- "$path" 2>/dev/null || continue
        # An access list that only a mask is left of was made by us: the file's mode then says all again.
        getfacl -cEp -- "$path" | grep -qE '^(user|group):[^:]+:' || setfacl -b -- "$path"
    done < "$dir/granted"
    rm -f -- "$dir/granted"
}

trim() {
    for log in "$console" "$dir/vmm.log"; do
        [ -f "$log" ] || continue
        # shellcheck disable=SC2046 # two numbers
        trim_log "$log" "$console_max_bytes" $(stat -c '%b %s' -- "$log")
    done
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

BODY = _COMMON + _RUN + _SANDBOX + _BOOT + _STOP + _ENDED + TRIM_FUNCTION + _VERBS
