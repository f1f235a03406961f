# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a VM's interfaces are on the host, and what is told to a guest of its addresses: the same for every backend. Pure, standard library only.

C(generated["nics"]) of a definition has, by id of the interface, what its network says (see C(NicFacts)); interfaces on no network of ours are not in it.
"""

from __future__ import annotations

import socket
import typing as t

from ..model.nic_facts import DIRECT_MAX, NicFacts
from . import kernel_args
from .port import Direct, TapLimit, TapUse

if t.TYPE_CHECKING:
    from ..model.config import Network, RateLimit, TokenBucket, VmConfig


# Up to 8: 9 is the supervisor's lock.
_FIRST_DESCRIPTOR = 3


def descriptors_of(generated: t.Mapping[str, t.Any]) -> dict[str, int]:
    """The numbers under which a VMM finds interfaces on macvtap networks open, by id."""
    direct = [nic_id for nic_id, facts in facts_of(generated).items() if is_direct(facts)]
    return {nic_id: _FIRST_DESCRIPTOR + at for at, nic_id in enumerate(direct[:DIRECT_MAX])}


def is_direct(facts: NicFacts) -> bool:
    """Whether an interface on a network is a macvtap device."""
    return not facts.get("bridge")


def _direct(our_id: str, nic: Network, generated: t.Mapping[str, t.Any]) -> t.Optional[Direct]:
    facts = facts_of(generated).get(our_id)
    descriptor = descriptors_of(generated).get(our_id)
    if facts is None or descriptor is None:
        return None
    mac = nic.mac_address or (generated.get("macs") or {}).get(our_id, "")
    own = tuple(address.partition("/")[0] for address in facts.get("addresses", [])) if facts.get("guarded") else None
    return Direct(str(facts.get("parent")), facts.get("mode") or "bridge", mac, descriptor, own)


def facts_of(generated: t.Mapping[str, t.Any]) -> t.Mapping[str, NicFacts]:
    return t.cast("t.Mapping[str, NicFacts]", generated.get("nics") or {})


def tap_use(our_id: str, nic: Network, generated: t.Mapping[str, t.Any], *, queue_pairs: int = 1, limited: bool = False) -> TapUse:
    """The tap of one interface: ours where one was chosen for it (C(generated["taps"])), on the bridge of its network or the one that it names.

    C(limited): the VMM does not keep its limits, so that the host has to."""
    ours = (generated.get("taps") or {}).get(our_id)
    facts = facts_of(generated).get(our_id, {})
    receiving, sending = (limit_of(nic.rate_limit_rx), limit_of(nic.rate_limit_tx)) if limited else (None, None)
    if ours is None:
        return TapUse(name=str(nic.tap_device), ours=False, mtu=nic.mtu, queue_pairs=queue_pairs, limit_rx=receiving, limit_tx=sending)
    return TapUse(
        name=ours,
        ours=True,
        bridge=facts.get("bridge") or nic.tap_device,
        mtu=nic.mtu or facts.get("mtu"),
        queue_pairs=queue_pairs,
        vlan=nic.vlan,
        limit_rx=receiving,
        limit_tx=sending,
        direct=_direct(our_id, nic, generated),
    )


def limit_of(limit: t.Optional[RateLimit]) -> t.Optional[TapLimit]:
    """The limit in the host's words. A bucket of C(size) that fills in C(refill_ms) is a rate, and a burst of its size."""
    if limit is None:
        return None
    return TapLimit(bytes_s=_rate(limit.bandwidth), burst_bytes=_size(limit.bandwidth), ops_s=_rate(limit.ops), burst_ops=_size(limit.ops))


def _rate(bucket: t.Optional[TokenBucket]) -> t.Optional[float]:
    return None if bucket is None else bucket.size * 1000 / bucket.refill_ms


def _size(bucket: t.Optional[TokenBucket]) -> int:
    return 0 if bucket is None else bucket.size


def told_by_kernel(config: VmConfig, generated: t.Mapping[str, t.Any], default: str) -> VmConfig:
    """The configuration with C(ip=) behind its kernel arguments, where an interface has its address by them. C(default): what stands in for none given."""
    words = [word for nic_id, facts in facts_of(generated).items() if facts.get("method") == "kernel" and (word := ip_word(config, nic_id, facts))]
    if not words or config.boot.kernel_path is None:
        return config
    given = config.boot.kernel_args
    line = kernel_args.with_words(default if given is None else given, words)
    return config.model_copy(update={"boot": config.boot.model_copy(update={"kernel_args": line})})


def ip_word(config: VmConfig, nic_id: str, facts: NicFacts) -> str:
    """C(ip=ADDRESS::GATEWAY:MASK:HOST:DEVICE:off:DNS:DNS), empty without an IPv4 address: the kernel knows no other.

    The device is named where there are several: they are numbered in the order in which they are given to the guest. Of one alone the kernel takes what is
    there, whatever it is called."""
    address, _slash, length = next((entry for entry in facts.get("addresses", []) if ":" not in entry), "").partition("/")
    if not address:
        return ""
    mask = socket.inet_ntoa((0xFFFFFFFF << (32 - int(length or 32)) & 0xFFFFFFFF).to_bytes(4, "big"))
    position = next((at for at, nic in enumerate(config.network) if (nic.id or str(at)) == nic_id), 0)
    device = f"eth{position}" if len(config.network) > 1 else ""
    gateway = next((entry for entry in facts.get("gateways", []) if ":" not in entry), "")
    names = [entry for entry in facts.get("nameservers", []) if ":" not in entry][:2]
    return ":".join([f"ip={address}", "", gateway, mask, facts.get("hostname", ""), device, "off", *names])


def macs_of(config: VmConfig, generated: t.Mapping[str, t.Any]) -> dict[str, str]:
    """MAC addresses by id: those given, else those chosen."""
    chosen = generated.get("macs") or {}
    named = [(nic.id or str(at), nic) for at, nic in enumerate(config.network)]
    return {nic_id: mac for nic_id, nic in named if (mac := nic.mac_address or chosen.get(nic_id))}


def told_by_metadata(generated: t.Mapping[str, t.Any], macs: t.Mapping[str, str]) -> dict[str, t.Any]:
    """What the metadata says of interfaces that have their addresses by it, by id; empty without one."""
    return {
        nic_id: {
            "mac_address": macs.get(nic_id),
            "addresses": facts.get("addresses", []),
            "gateways": facts.get("gateways", []),
            "nameservers": facts.get("nameservers", []),
            "domain": facts.get("domain"),
            "hostname": facts.get("hostname"),
            "mtu": facts.get("mtu"),
        }
        for nic_id, facts in facts_of(generated).items()
        if facts.get("method") == "mmds"
    }
