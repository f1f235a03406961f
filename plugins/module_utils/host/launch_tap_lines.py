# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of a VM's launch file that make its taps, in the words of C(launch_taps). Pure, standard library only."""

from __future__ import annotations

import hashlib
import shlex
import typing as t

from .launch_guard import guard_rules

if t.TYPE_CHECKING:
    from ..backends.port import Direct, TapLimit, TapUse

# What tc and nft can be told. A frame that is handed over whole and cut later counts as one of the largest size.
RATE_MAX = 1 << 40
BURST_MAX_S = 100
FRAME_MAX = 9216
QUEUE_MIN = 128 << 10
_UNITS = (("second", 1), ("minute", 60), ("hour", 3600), ("day", 86400))
# What a guest sends goes out through its macvtap device, and comes in through its tap.
_OTHER_WAY = {"rx": "tx", "tx": "rx"}


def tap_lines(taps: t.Sequence[TapUse]) -> list[str]:
    """What the launch file calls to make a VM's taps and hold them to their limits and addresses; nothing for a VM without taps of ours or limits."""
    made = [_tap_line(tap) if tap.direct is None else _macvtap_line(tap, tap.direct) for tap in taps if tap.ours]
    limits = [
        _limit_line(tap.name, way if tap.direct is None else _OTHER_WAY[way], limit)
        for tap in taps
        for way, limit in (("rx", tap.limit_rx), ("tx", tap.limit_tx))
        if limit is not None
    ]
    guards = [
        f"guard {shlex.join([tap.name, guard_rules(tap.direct.mac, tap.direct.addresses)])}"
        for tap in taps
        if tap.ours and tap.direct is not None and tap.direct.addresses is not None
    ]
    return [*made, *limits, *guards, "make_taps"] if made or limits else []


def _tap_line(tap: TapUse) -> str:
    words = [tap.name, tap.bridge or "", "" if tap.mtu is None else str(tap.mtu), "" if tap.vlan is None else str(tap.vlan)]
    if tap.queue_pairs > 1:
        words.append("multi_queue")
    if tap.vnet_headers:
        words.append("vnet_hdr")
    return f"tap {shlex.join(words)}"


def _macvtap_line(tap: TapUse, direct: Direct) -> str:
    mtu = "" if tap.mtu is None else str(tap.mtu)
    return f"macvtap {shlex.join([tap.name, direct.parent, direct.mode, direct.mac, mtu, str(direct.descriptor)])}"


def _limit_line(tap: str, way: str, limit: TapLimit) -> str:
    """In the words of tc and nft, which take whole numbers. A bucket must hold a frame, and the queue before it what comes at once."""
    rate = burst = queue = packets = packets_burst = ""
    if limit.bytes_s is not None:
        bytes_s = max(1, min(RATE_MAX, round(limit.bytes_s)))
        held = max(FRAME_MAX, min(limit.burst_bytes, bytes_s * BURST_MAX_S))
        rate, burst, queue = str(bytes_s), str(held), str(held + max(QUEUE_MIN, bytes_s // 10))
    if limit.ops_s is not None:
        number, unit = next((limit.ops_s * seconds, unit) for unit, seconds in _UNITS if limit.ops_s * seconds >= 10 or unit == "day")
        packets, packets_burst = f"{max(1, round(number))}/{unit}", str(max(1, min(limit.burst_ops, 1 << 31)))
    return f"limit {shlex.join([tap, way, rate, burst, queue, packets, packets_burst, led_to(tap)])}"


def led_to(tap: str) -> str:
    """The name of the device through which goes what the guest behind this tap sends: stable, and nobody else's."""
    return "vq" + hashlib.sha256(f"led\0{tap}".encode()).hexdigest()[:12]
