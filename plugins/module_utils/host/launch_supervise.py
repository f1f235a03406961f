# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a launch file that stays while its VM runs, where there is no systemd: the plain supervisor. POSIX sh; see C(launch_body).

It holds C($run/supervisor.lock) on descriptor 9 for as long as it lives, and so does what it starts until that is the VMM: whoever has the lock
knows that nobody else is starting or clearing up. With a uid it runs in the VM's private mount namespace.
"""

from __future__ import annotations

# 'wait' does not tell an exit code above 128 from a signal. Signals that end a process are 1-16 and 31; Firecracker's own codes (148-157) are not
# among them, so they stay codes.
SUPERVISE = r"""
# 'locked': descriptor 9 has the lock already. 'adopt': of a VMM whose supervisor was killed; not the same as finding one that runs, for by the time
# that this looks it may have been ended, and would be started again. 'mounted': in a namespace where its sandbox is mounted.
supervise() {
    set +e
    if [ "$1" != locked ]; then
        exec 9>> "$run/supervisor.lock"
        flock --nonblock 9 || exit 75
    fi
    how=${2-} ending='' adopted=''
    trap 'ending=yes' TERM
    read -r host_boot_id < /proc/sys/kernel/random/boot_id
    read_stat "$$"
    set -- $stat
    printf '%s %s - %s\n' "$$" "${20}" "$host_boot_id" > "$run/supervisor"
    if [ "$how" = adopt ]; then
        recorded || exit 0
        # Watched on, its exit code will be lost.
        vm=$pid adopted=$start_time
    else
        ( trap - TERM; set -e; run_vmm ) & vm=$!
    fi
    watch
    how_it_ended
    leave_sandbox
    ( set -e; ended plain )
    [ "$?" -eq 3 ] || { rm -f -- "$run/supervisor"; exit 0; }
    private supervise locked
}

watch() {
    status=127
    while :; do
        # Before the wait: a signal that came while nothing was waited for yet would wake nobody.
        if [ -n "$ending" ]; then ending=''; ( set -e; stop_vmm ) 9>&-; fi
        if [ -n "$adopted" ]; then
            # A process that is not our child ends without waking us.
            sleep 1 9>&- & wait "$!" 2>/dev/null
            alive "$vm" "$adopted" || break
        else
            wait "$vm" 2>/dev/null
            status=$?
            read_stat "$vm"
            case $stat in
                '') break ;;
                # It ended while a signal interrupted the wait.
                Z*|X*|x*) wait "$vm" 2>/dev/null; status=$?; break ;;
            esac
        fi
    done
}

how_it_ended() {
    EXIT_CODE=unknown EXIT_STATUS=''
    [ -z "$adopted" ] || return 0
    EXIT_STATUS=$status EXIT_CODE=exited
    number=$(( status - 128 ))
    if [ "$number" -eq 31 ] || { [ "$number" -ge 1 ] && [ "$number" -le 16 ]; }; then
        EXIT_CODE=killed EXIT_STATUS=$(kill -l "$number")
    fi
}

# Of this namespace, which the next process would inherit. What lies over a device is ours only where we made the node.
leave_sandbox() {
    [ -n "$uid" ] || return 0
    cd / || :
    for device in $devices; do
        [ ! -e "$run/files/+dev${device##*/}" ] || umount -- "$device"
    done
    for place in "$run/files" "$run/jail"; do
        ! mountpoint -q -- "$place" || umount -R -- "$place"
    done
}
"""
