# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a launch file for the end of a VM: stopping, recording, restarting by policy, clearing up. POSIX sh; see C(launch_body)."""

from __future__ import annotations

STOP = r"""
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

ENDED = r"""
# After the process: $EXIT_CODE (exited, killed, dumped, or unknown) and $EXIT_STATUS (a number, or a signal's name without SIG).
ended() { # systemd or plain
    if running; then exit 0; fi
    was_up=no reason=''
    if recorded; then
        end_reason
        came_up && was_up=yes
        # A run of this verb that was killed has recorded it already.
        case $(tail -n 1 -- "$dir/events.jsonl" 2>/dev/null) in
            *'"event":"exit"'*"$boot_id"*) ;;
            *) record exit ",\"reason\":\"$reason\",\"code\":$code,\"signal\":$signal" ;;
        esac
    fi
    clear_up
    bound_logs
    rm -f -- "$run/pid"
    # The policy as it is now: a task may have changed it while the VM ran.
    . "$dir/policy"
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
    [ ! -s "$run/stopping" ] || read -r asked by by_start < "$run/stopping" || :
    case ${asked-} in
        # The mark of a task that was killed before it did anything says nothing of a crash that comes long after it.
        request|host|restart) if [ "$reason" != crash ] || [ -z "${by-}" ] || alive "$by" "${by_start-}"; then reason=$asked; fi ;;
    esac
}

# A start that failed is not tried again by policy. Where nobody is left to say that it was up, two seconds of life do, and an end in good order.
came_up() {
    [ ! -e "$run/problem" ] || return 1
    [ ! -e "$run/up" ] && [ "$reason" = crash ] || return 0
    uptime_s
    [ $(( up * 100 - start_time )) -ge 200 ]
}

bound_logs() {
    [ -e "$dir/vmm.log" ] && [ -e "$dir/events.jsonl" ] || return 0
    # shellcheck disable=SC2046 # two numbers
    set -- $(stat -c %s -- "$dir/vmm.log" "$dir/events.jsonl")
    if [ "$1" -gt 65536 ]; then
        # Emptied and filled again, not replaced: it may belong to the VM's uid.
        tail -c 65536 -- "$dir/vmm.log" > "$dir/vmm.log.new"
        cat -- "$dir/vmm.log.new" > "$dir/vmm.log"
        rm -f -- "$dir/vmm.log.new"
    fi
    if [ "$2" -gt "$events_max_bytes" ]; then
        tail -n "$events_keep_lines" -- "$dir/events.jsonl" > "$dir/events.new"
        mv -f -- "$dir/events.new" "$dir/events.jsonl"
    fi
}

wants_restart() {
    case $reason in
        guest) [ "$exit_zero_is_reboot" = yes ] && [ "$on_reboot" = restart ] ;;
        crash) [ "$on_crash" = restart ] ;;
        *) false ;;
    esac
}

# Times of restarts within the last hour, one a line. One in the future was written before the clock was set back: it would count for longer than an hour.
restarts_left() {
    this_time=$(date +%s)
    since=$(( this_time - 3600 )) count=0
    : > "$dir/restarts.new"
    if [ -f "$dir/restarts" ]; then
        while read -r at; do
            case $at in ''|*[!0-9]*) continue ;; esac
            if [ "$at" -gt "$since" ] && [ "$at" -le "$this_time" ]; then count=$(( count + 1 )); echo "$at" >> "$dir/restarts.new"; fi
        done < "$dir/restarts"
    fi
    if [ "$count" -ge "$max_per_hour" ]; then
        rm -f -- "$dir/restarts.new"
        record restart_limit ",\"restarts\":$count"
        return 1
    fi
    echo "$this_time" >> "$dir/restarts.new"
    mv -f -- "$dir/restarts.new" "$dir/restarts"
}

# Safe at any time when no VMM runs. 'files' and 'jail' are mount points of a namespace that is gone, empty here: rmdir, so that nothing
# that might still be mounted there could ever be deleted.
clear_up() {
    remove_taps
    take_back
    if [ -d "$run/files" ]; then rmdir -- "$run/files" || :; fi
    if [ -d "$run/jail" ]; then rmdir -- "$run/jail" || :; fi
    set -- "$run/stopping" "$run/up" "$run/watched" "$run/mounts" "$run/vmm" \
        "$run/satisfied.json" "$dir/restarts.new" "$dir/vmm.log.new" "$dir/events.new"
    for leftover; do
        if [ -e "$leftover" ]; then rm -rf --one-file-system -- "$@"; break; fi
    done
}

# Undoes what allow() did, where the path still names the file that it was done to.
take_back() {
    [ -f "$dir/granted" ] || return 0
    while read -r inode who before path; do
        [ "$(stat -L -c '%d:%i' -- "$path" 2>/dev/null)" = "$inode" ] || continue
        if [ "$before" != - ]; then
            setfacl -m "u:$who:$before" -- "$path" 2>/dev/null || :
            continue
        fi
        setfacl -x "u:$who" -- "$path" 2>/dev/null || continue
        # An access list that only a mask is left of was made by us: the file's mode then says all again.
        getfacl -cEp -- "$path" | grep -qE '^(user|group):[^:]+:' || setfacl -b -- "$path"
    done < "$dir/granted"
    rm -f -- "$dir/granted"
}
"""
