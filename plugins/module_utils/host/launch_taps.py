# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a launch file for the VM's taps, and the limits of what passes through them. POSIX sh; see C(launch_body).

All taps are made by one run of C(ip), all queues by one of C(tc), all rules by one of C(nft): what each is to do is collected first.
"""

from __future__ import annotations

TAPS = r"""
links='' queues='' rules='' bridge_vlans='' limited='' to_open=''

tap() { # name, bridge or '', mtu or '', vlan or '', further words for ip tuntap
    # Recorded, not taken from the launch file: by the time they are removed that may speak of other taps.
    printf '%s\n' "$1" >> "$run/taps"
    tap_name=$1 tap_bridge=$2 tap_mtu=$3 tap_vlan=$4
    shift 4
    links="$links${links:+
}"
    [ ! -e "/sys/class/net/$tap_name" ] || links="${links}link delete dev $tap_name
"
    links="${links}tuntap add dev $tap_name mode tap ${uid:+user $uid} $*
link set dev $tap_name ${tap_mtu:+mtu $tap_mtu} ${tap_bridge:+master $tap_bridge} up"
    [ -z "$tap_bridge" ] || on_bridge
}

macvtap() { # name, interface beneath it, mode, MAC address, mtu or '', descriptor
    printf '%s\n' "$1" >> "$run/taps"
    step="make the macvtap device $1 on $2"
    [ -e "/sys/class/net/$2" ] || fail "The VMM was not started: could not $step, which is not there. Bring it back, or correct the configuration."
    links="$links${links:+
}"
    [ ! -e "/sys/class/net/$1" ] || links="${links}link delete dev $1
"
    links="${links}link add link $2 name $1 address $4 type macvtap mode $3
link set dev $1 ${5:+mtu $5} up"
    to_open="$to_open $1:$6"
}

# Before the VMM is become, which inherits them. By a node of our own: the kernel's has the number of the interface, which other network namespaces have as
# well. Not in the VM's directory of files, which could not be unmounted while anybody has it open.
open_macvtaps() {
    for opening in $to_open; do
        tap_name=${opening%:*}
        step="open the macvtap device $tap_name"
        read -r index < "/sys/class/net/$tap_name/ifindex"
        IFS=: read -r major minor < "/sys/class/net/$tap_name/macvtap/tap$index/dev"
        rm -f -- "/dev/.vmcp-$tap_name"
        mknod -m 0600 -- "/dev/.vmcp-$tap_name" c "$major" "$minor"
        eval "exec ${opening##*:}<>/dev/.vmcp-$tap_name"
        rm -f -- "/dev/.vmcp-$tap_name"
    done
}

# In the batch it would fail as well; here it can be said which one is missing.
on_bridge() {
    step="put the tap $tap_name on the bridge $tap_bridge"
    [ -d "/sys/class/net/$tap_bridge/bridge" ] || fail "The VMM was not started: could not $step, which is not there. Make it, or correct the configuration."
    [ -n "$tap_vlan" ] || return 0
    read -r filters < "/sys/class/net/$tap_bridge/bridge/vlan_filtering" || filters=0
    [ "$filters" = 1 ] || fail "The VMM was not started: the bridge $tap_bridge does not filter VLANs, so the tap $tap_name cannot be in VLAN $tap_vlan."
    bridge_vlans="${bridge_vlans}vlan del dev $tap_name vid 1
vlan add dev $tap_name vid $tap_vlan pvid untagged
"
}

# What the guest sends is led through a device of its own, whose queue is the one that is held back: the tap has none in that direction. Afterwards the
# frame comes in through the tap as it would have.
limit() { # tap, rx or tx (as the guest sees it), bytes/s or '', burst, queue; packets: rate with unit or '', burst; where frames are led to
    case $2 in rx) hook=egress ;; *) hook=ingress ;; esac
    limited="$limited $1"
    rule=''
    [ -z "$6" ] || rule="limit rate over $6 burst $7 packets drop; "
    if [ -n "$3" ]; then
        queue_of=$1
        if [ "$2" = tx ]; then
            queue_of=$8
            printf '%s\n' "$8" >> "$run/taps"
            [ ! -e "/sys/class/net/$8" ] || links="$links
link delete dev $8"
            links="$links
link add name $8 type ifb
link set dev $8 up"
            rule="${rule}fwd to \"$8\"; "
        fi
        queues="${queues}qdisc replace dev $queue_of root tbf rate ${3}bps burst $4 limit $5
"
    fi
    [ -n "$rule" ] || return 0
    # The first line makes the second right whatever there was.
    rules="${rules}table netdev vmcp-$1-$2
delete table netdev vmcp-$1-$2
table netdev vmcp-$1-$2 { chain $2 { type filter hook $hook device \"$1\" priority 0; $rule }; }
"
}

# No bridge sees what a macvtap device sends, so it is looked at where it leaves the device.
guard() { # macvtap device, rules of nft
    limited="$limited $1"
    rules="${rules}table netdev vmcp-$1-guard
delete table netdev vmcp-$1-guard
table netdev vmcp-$1-guard { chain guard { type filter hook egress device \"$1\" priority -10; $2; }; }
"
}

make_taps() {
    step='make the taps'
    [ -z "$links" ] || printf '%s\n' "$links" | ip -batch -
    step='put the taps into their VLANs'
    [ -z "$bridge_vlans" ] || printf '%s' "$bridge_vlans" | bridge -batch -
    step='limit and guard what passes through the taps (a guard of macvtap needs Linux 5.16, or anti_spoofing: false on its network)'
    [ -z "$queues$rules" ] || printf '%s\n' "$limited" > "$run/limits"
    [ -z "$queues" ] || printf '%s' "$queues" | tc -batch -
    [ -z "$rules" ] || printf '%s' "$rules" | nft -f -
}
"""

REMOVE_TAPS = r"""
remove_taps() {
    if [ -f "$run/limits" ]; then
        for tap_name in $(cat -- "$run/limits"); do
            # Of a tap of the user's; one of ours takes its queue with it.
            tc qdisc del dev "$tap_name" root 2>/dev/null || :
            for way in rx tx guard; do nft "delete table netdev vmcp-$tap_name-$way" 2>/dev/null || :; done
        done
    fi
    if [ -f "$run/taps" ]; then
        while read -r tap_name; do
            [ ! -e "/sys/class/net/$tap_name" ] || ip link delete dev "$tap_name" || echo "could not remove the tap $tap_name"
        done < "$run/taps"
    fi
    for record in "$run/limits" "$run/taps"; do
        if [ -e "$record" ]; then rm -f -- "$run/limits" "$run/taps"; break; fi
    done
}
"""
