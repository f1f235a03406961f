# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks, network interfaces, console and the small devices in QEMU's words. Pure.

A device is a back end (what it is on the host) and a front end (what the guest sees). Front ends come in the order in which the guest is to name
them; on q35 each is behind a port of its own, because only those can be unplugged again.
"""

from __future__ import annotations

import typing as t

from ...errors import InvalidArgument, Violation
from .translate import Wiring, root_disk
from .words import AIO, IMAGE_FORMATS, document, option, wire_id

if t.TYPE_CHECKING:
    from ...model.config import Network, RateLimit, Storage, VmConfig

# Root ports left free for what is plugged in while the VM runs.
SPARE_PORTS = 8
# Slots 0, 1 and 31 of the root bus are the host bridge's, the watchdog's and the chipset's; eight ports share a slot.
_FIRST_PORT_SLOT = 2
PORTS_MAX = (31 - _FIRST_PORT_SLOT) * 8
# QEMU takes no shorter receive queue.
RX_QUEUE_SIZE_MIN = 256

Front = dict[str, t.Any]


def ordered_disks(config: VmConfig) -> list[tuple[str, str, Storage]]:
    """(id on the wire, alias of its file, disk), the root disk first: it is the guest's first disk whatever its place in the list."""
    root = root_disk(config)
    ordered = [disk for disk in config.storage if disk is root] + [disk for disk in config.storage if disk is not root]
    return [(wire_id("disk", disk.id or str(index)), f"disk_{index}", disk) for index, disk in enumerate(ordered)]


def named_nics(config: VmConfig) -> list[tuple[str, str, Network]]:
    """(our id, alias of its vhost-user socket, interface)."""
    return [(nic.id or str(index), f"net_{index}", nic) for index, nic in enumerate(config.network)]


def arguments(config: VmConfig, wiring: Wiring) -> list[str]:
    """All devices but the console: back ends, then root ports, then front ends in the guest's order."""
    backs: list[str] = []
    fronts: list[Front] = []
    for wire, alias, disk in ordered_disks(config):
        words, front = _disk(wire, disk, wiring.files[alias], boots_first=disk.is_root_device)
        backs += words
        fronts.append(front)
    for our_id, alias, nic in named_nics(config):
        words, front = _nic(our_id, nic, wiring, wiring.files.get(alias))
        backs += words
        fronts.append(front)
    for words, front in _small_devices(config, wiring):
        backs += words
        fronts.append(front)
    placed = _on_ports(fronts) if wiring.pci else _on_mmio_slots(fronts)
    if config.watchdog:
        placed += ["-device", document({"driver": "i6300esb", "id": "watchdog", "bus": "pcie.0", "addr": "0x1"})]
    return backs + placed


def _on_ports(fronts: t.Sequence[Front]) -> list[str]:
    count = len(fronts) + SPARE_PORTS
    if count > PORTS_MAX:
        raise InvalidArgument.of([Violation("config", f"has {len(fronts)} devices; QEMU takes {PORTS_MAX - SPARE_PORTS}")])
    words: list[str] = []
    for index in range(count):
        slot, function = divmod(index, 8)
        port = {"driver": "pcie-root-port", "id": f"port_{index}", "bus": "pcie.0", "chassis": index + 1, "addr": f"{hex(_FIRST_PORT_SLOT + slot)}.{function}"}
        words += ["-device", document({**port, "multifunction": True if function == 0 else None})]
    for index, front in enumerate(fronts):
        words += ["-device", document({**front, "driver": f"{front['driver']}-pci", "bus": f"port_{index}"})]
    return words


def _on_mmio_slots(fronts: t.Sequence[Front]) -> list[str]:
    """No slot is named: QEMU fills them from the last to the first and lists them to the guest in that order, so that the guest's first disk is
    ours; and the lowest slots share interrupts, so that a disk in one of them hangs."""
    words: list[str] = []
    for front in fronts:
        # Interrupt vectors and boot order are matters of PCI and of firmware.
        on_mmio = {key: value for key, value in front.items() if key not in ("vectors", "bootindex", "romfile")}
        words += ["-device", document({**on_mmio, "driver": f"{front['driver']}-device"})]
    return words


# --- disks ------------------------------------------------------------------------------------------------


def _disk(wire: str, disk: Storage, path: str, boots_first: bool) -> tuple[list[str], Front]:
    front: Front = {"id": wire, "num-queues": disk.num_queues, "queue-size": disk.queue_size, "bootindex": 1 if boots_first else None}
    if disk.vhost_user_socket is not None:
        chardev = option("socket", id=f"socket_{wire}", path=path)
        return ["-chardev", chardev], {"driver": "vhost-user-blk", "chardev": f"socket_{wire}", **front}
    # -drive and not -blockdev: it alone finds out by itself whether the path is a file or a block device, which want different drivers.
    drive = option(
        "if=none",
        id=wire,
        format=IMAGE_FORMATS[disk.format or "raw"],
        readonly=disk.read_only,
        auto_read_only=False,
        cache__direct=disk.direct_io,
        aio=AIO[disk.io_engine] if disk.io_engine is not None else None,
        discard="unmap",
        **_throttle(disk.rate_limit),
        file=path,
    )
    return ["-drive", drive], {"driver": "virtio-blk", "drive": wire, "serial": disk.serial, **front}


def _throttle(limit: t.Optional[RateLimit]) -> dict[str, int]:
    """A bucket of C(size) that fills in C(refill_ms) is a rate; its extra C(burst) is what may pass above the rate within one second."""
    options: dict[str, int] = {}
    if limit is None:
        return options
    for name, bucket in (("bps", limit.bandwidth), ("iops", limit.ops)):
        if bucket is None or not bucket.size or not bucket.refill_ms:
            continue
        rate = max(1, bucket.size * 1000 // bucket.refill_ms)
        options[f"throttling__{name}_total"] = rate
        if bucket.burst:
            options[f"throttling__{name}_total_max"] = rate + bucket.burst
    return options


# --- network ----------------------------------------------------------------------------------------------


def _nic(our_id: str, nic: Network, wiring: Wiring, socket_path: t.Optional[str]) -> tuple[list[str], Front]:
    """Rate limits are not QEMU's to keep: it has no limiter for network interfaces."""
    wire = wire_id("net", our_id)
    backend_id = f"host_{wire}"
    queues = nic.num_queues if nic.num_queues is not None and nic.num_queues > 1 else None
    front: Front = {
        "driver": "virtio-net",
        "id": wire,
        "netdev": backend_id,
        "mac": nic.mac_address or wiring.macs.get(our_id),
        "host_mtu": nic.mtu,
        "mq": True if queues else None,
        # One for each direction of each pair, one for changes of configuration, one for the control queue.
        "vectors": 2 * queues + 2 if queues else None,
        "rx_queue_size": nic.queue_size,
        # No boot ROM: it is in a package of its own that may be missing, and nothing here boots from the network.
        "romfile": "",
    }
    if socket_path is not None:
        front["tx_queue_size"] = nic.queue_size
        chardev = option("socket", id=f"socket_{wire}", path=socket_path)
        netdev = option("vhost-user", id=backend_id, chardev=f"socket_{wire}", queues=queues)
        return ["-chardev", chardev, "-netdev", netdev], front
    if our_id in wiring.descriptors:
        return ["-netdev", option("tap", id=backend_id, fd=wiring.descriptors[our_id], vhost=False)], front
    netdev = option(
        "tap",
        id=backend_id,
        ifname=wiring.taps.get(our_id, nic.tap_device),
        script="no",
        downscript="no",
        vhost=False,
        queues=queues,
    )
    return ["-netdev", netdev], front


# --- the small ones ---------------------------------------------------------------------------------------


def _small_devices(config: VmConfig, wiring: Wiring) -> t.Iterator[tuple[list[str], Front]]:
    source = config.rng.source if config.rng is not None else "/dev/urandom"
    # The built-in source is the kernel's getrandom(), the same bytes as /dev/urandom without a file to open.
    rng = {"qom-type": "rng-builtin", "id": "entropy"} if source == "/dev/urandom" else {"qom-type": "rng-random", "id": "entropy", "filename": source}
    yield ["-object", document(rng)], {"driver": "virtio-rng", "id": "rng", "rng": "entropy"}
    balloon = config.memory.balloon
    if balloon is not None:
        yield (
            [],
            {
                "driver": "virtio-balloon",
                "id": "balloon",
                "deflate-on-oom": balloon.deflate_on_oom,
                "free-page-reporting": balloon.free_page_reporting,
            },
        )
    if config.vsock is not None:
        cid = config.vsock.cid if config.vsock.cid is not None else wiring.cid
        yield [], {"driver": "vhost-vsock", "id": "vsock", "guest-cid": cid}


# --- the console ------------------------------------------------------------------------------------------

CONSOLE_ID = "console"


def console(config: VmConfig, sockets: str) -> list[str]:
    """The first serial port. C(file) is our standard output: the launch file knows where that goes, and root opens it, not QEMU.

    C(signal=off): a Ctrl+C byte from the guest's terminal must not end the VMM."""
    if not config.console.enabled:
        return ["-serial", "none"]
    backends = {
        "file": option("stdio", id=CONSOLE_ID, signal=False),
        "tty": option("pty", id=CONSOLE_ID),
        "null": option("null", id=CONSOLE_ID),
        "socket": option("socket", id=CONSOLE_ID, path=config.console.path or f"{sockets}/console.sock", server=True, wait=False),
    }
    return ["-chardev", backends[config.console.output], "-serial", f"chardev:{CONSOLE_ID}"]
