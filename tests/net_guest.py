# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest without Linux that drives a virtio network interface, for what only a real VMM's own limiter shows.

It sends the same frame, of a type that nobody listens to, as fast as it is let, and takes whatever comes. Firecracker's interface is found among its
memory-mapped devices, Cloud Hypervisor's on the PCI bus; both are virtio 1.x, without any feature beyond that. The latter lies beyond 4 GiB, so that guest
turns paging on, as a 64-bit kernel does: a KVM without vmx and svm knows no other.
"""

from __future__ import annotations

import struct
import typing as t

from ansible_collections.unkey.vmcp.tests.guests import Code, guest_of, halt

FRAME_BYTES = 1500
_HEADER_BYTES = 12
_ENTRIES = 16
_RECEIVE, _SEND = 0, 1

# Memory of its own, behind that of the guest's file: for each queue descriptors, available and used ring, then buffers.
_RINGS = {_RECEIVE: (0x200000, 0x201000, 0x202000), _SEND: (0x203000, 0x204000, 0x205000)}
_FRAME = 0x206000
_BUFFERS = 0x210000
# Firecracker takes nothing in while it has not got 64 KiB to put it.
_BUFFER_BYTES = 0x4000
_TOP, _DIRECTORIES, _LOW_PAGES, _HIGH_PAGES = 0x300000, 0x301000, 0x302000, 0x303000
# Where that device is mapped.
_WINDOW = 0x40000000
_LARGE_PAGE = 0x200000

_ACKNOWLEDGED, _DRIVER, _DRIVER_OK, _FEATURES_OK = 1, 2, 4, 8
_DEVICE_WRITES = 2
_NO_INTERRUPTS = 1
_BROADCAST, _OURS, _EXPERIMENTAL = b"\xff" * 6, b"\x02\0\0\0\0\x01", b"\x88\xb5"


def sending_guest(greeting: str, backend: str) -> bytes:
    """The ELF file, for C(firecracker) or C(cloudhypervisor). It prints the greeting and sends; "no interface" where it finds none."""
    return guest_of(greeting, {"firecracker": _on_mmio, "cloudhypervisor": _on_pci}[backend])


class _Device:
    """Registers of the device at ebx."""

    def __init__(self, code: Code) -> None:
        self._code = code

    def byte(self, offset: int, value: int) -> None:
        self._code.put("c683", offset, bytes([value]))  # mov byte [ebx + offset], value

    def word(self, offset: int, value: int) -> None:
        self._code.put("66c783", offset, struct.pack("<H", value))  # mov word [ebx + offset], value

    def long(self, offset: int, value: int) -> None:
        self._code.put("c783", offset, value)  # mov dword [ebx + offset], value


def _on_mmio(code: Code) -> None:
    device = _Device(code)
    code.put("bb", 0xC0001000)  # mov ebx: the first page of devices
    code.label("find")
    code.put("8b03", "3d", 0x74726976)  # mov eax, [ebx]; cmp eax, "virt"
    code.near("0f85", "next")
    code.put("8b4308", "83f801")  # mov eax, [ebx + 8]; cmp eax, 1: a network interface
    code.near("0f84", "found")
    code.label("next")
    code.put("81c3", 0x1000, "81fb", 0xC0040000)  # add ebx, 0x1000; cmp ebx, behind the last
    code.near("0f85", "find")
    _none(code)
    code.label("found")
    for status in (0, _ACKNOWLEDGED, _ACKNOWLEDGED | _DRIVER):
        device.long(0x70, status)
    for half, features in ((1, 1), (0, 0)):  # VIRTIO_F_VERSION_1 is bit 32
        device.long(0x24, half)
        device.long(0x20, features)
    device.long(0x70, _ACKNOWLEDGED | _DRIVER | _FEATURES_OK)
    _fill_rings(code)
    for queue, rings in _RINGS.items():
        device.long(0x30, queue)
        device.long(0x38, _ENTRIES)
        for register, address in zip((0x80, 0x90, 0xA0), rings, strict=True):
            device.long(register, address)
            device.long(register + 4, 0)
        device.long(0x44, 1)
    device.long(0x70, _ACKNOWLEDGED | _DRIVER | _FEATURES_OK | _DRIVER_OK)
    _serve(code, lambda queue: device.long(0x50, queue))


def _on_pci(code: Code) -> None:
    device = _Device(code)
    code.put("be", 0x80000000)  # mov esi: the first device on the bus, as the configuration port takes it
    code.label("find")
    _configuration(code, 0)
    code.put("3d", 0x10411AF4)  # cmp eax, virtio's network interface
    code.near("0f84", "found")
    code.put("81c6", 0x800, "81fe", 0x80010000)  # add esi, 0x800; cmp esi, behind the last
    code.near("0f85", "find")
    _none(code)
    code.label("found")
    _map_device(code)
    for status in (0, _ACKNOWLEDGED, _ACKNOWLEDGED | _DRIVER):
        device.byte(0x14, status)
    for half, features in ((1, 1), (0, 0)):
        device.long(0x08, half)
        device.long(0x0C, features)
    device.byte(0x14, _ACKNOWLEDGED | _DRIVER | _FEATURES_OK)
    _fill_rings(code)
    for queue, rings in _RINGS.items():
        device.word(0x16, queue)
        device.word(0x18, _ENTRIES)
        for register, address in zip((0x20, 0x28, 0x30), rings, strict=True):
            device.long(register, address)
            device.long(register + 4, 0)
        device.word(0x1C, 1)
    device.byte(0x14, _ACKNOWLEDGED | _DRIVER | _FEATURES_OK | _DRIVER_OK)
    # Where Cloud Hypervisor has its notifications in the one BAR that it uses, four bytes for each queue.
    _serve(code, lambda queue: device.word(0x6000 + 4 * queue, queue))


def _configuration(code: Code, register: int) -> None:
    """eax: what is in a register of the device at esi."""
    code.put("8d86", register)  # lea eax, [esi + register]
    code.put("66baf80c", "ef", "66bafc0c", "ed")  # mov dx, 0xcf8; out dx, eax; mov dx, 0xcfc; in eax, dx


def _map_device(code: Code) -> None:
    """ebx: where the device's first BAR, of 64 bits, can be reached, by the large pages of long mode. The code stays 32-bit code."""
    _configuration(code, 4)
    code.put("b8", 6, "ef")  # mov eax, memory space and bus master; out dx, eax
    _configuration(code, 0x10)
    code.put("83e0f0", "89c7")  # and eax, ~0xf; mov edi, eax
    _configuration(code, 0x14)
    code.put("a3", _HIGH_PAGES + 4)  # mov [..], eax
    code.put("89f8", "25", -_LARGE_PAGE & 0xFFFFFFFF)  # mov eax, edi; and eax, ..
    code.put("0d", 0x9B, "a3", _HIGH_PAGES)  # or eax, large, uncached, writable, present; mov [..], eax
    code.put("89fb", "81e3", _LARGE_PAGE - 1, "81c3", _WINDOW)  # mov ebx, edi; and ebx, ..; add ebx, ..
    _store(code, _TOP, _DIRECTORIES | 3)
    _store(code, _DIRECTORIES, _LOW_PAGES | 3)
    _store(code, _DIRECTORIES + 8 * (_WINDOW >> 30), _HIGH_PAGES | 3)
    for page in range(2):
        _store(code, _LOW_PAGES + 8 * page, page * _LARGE_PAGE | 0x83)
    code.put("0f20e0", "83c820", "0f22e0")  # mov eax, cr4; or eax, PAE; mov cr4, eax
    code.put("b9", 0xC0000080, "0f32", "0d", 0x100, "0f30")  # mov ecx, EFER; rdmsr; or eax, LME; wrmsr
    code.put("b8", _TOP, "0f22d8")  # mov eax, ..; mov cr3, eax
    code.put("0f20c0", "0d", 0x80000000, "0f22c0")  # mov eax, cr0; or eax, PG; mov cr0, eax


def _none(code: Code) -> None:
    code.print("no_interface")
    halt(code)
    code.text("no_interface", "no interface\r\n")


def _store(code: Code, address: int, value: int) -> None:
    code.put("c705", address, value)  # mov dword [address], value


def _fill_rings(code: Code) -> None:
    """Every entry of a ring is the descriptor of the same number, so a ring is given again by counting on."""
    head = bytes(_HEADER_BYTES) + _BROADCAST + _OURS + _EXPERIMENTAL
    for at, value in enumerate(struct.unpack("<6I", head[:24])):
        _store(code, _FRAME + 4 * at, value)
    _store(code, _FRAME + 24, int.from_bytes(head[24:], "little"))
    for queue, (descriptors, available, dummy) in _RINGS.items():
        _store(code, available, _NO_INTERRUPTS)
        for entry in range(_ENTRIES):
            at = descriptors + 16 * entry
            receives = queue == _RECEIVE
            _store(code, at, _BUFFERS + entry * _BUFFER_BYTES if receives else _FRAME)
            _store(code, at + 8, _BUFFER_BYTES if receives else _HEADER_BYTES + FRAME_BYTES)
            _store(code, at + 12, _DEVICE_WRITES if receives else 0)
        for pair in range(0, _ENTRIES, 2):
            _store(code, available + 4 + 2 * pair, pair | (pair + 1) << 16)


def _serve(code: Code, notify: t.Callable[[int], None]) -> None:
    """Whatever was used is given again, for ever; in between some time passes, so that a limit, and not the guest, is what holds it."""
    code.label("serve")
    for queue, (dummy, available, used) in _RINGS.items():
        code.put("66a1", used + 2, "6683c0", bytes([_ENTRIES]))  # mov ax, [used index]; add ax, 16
        code.put("663b05", available + 2)  # cmp ax, [available index]
        code.near("0f84", f"served_{queue}")
        code.put("66a3", available + 2)  # mov [available index], ax
        notify(queue)
        code.label(f"served_{queue}")
    code.put("b9", 200_000)
    code.near("e8", "delay")
    code.near("e9", "serve")
