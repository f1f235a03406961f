# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest for tests on real VMMs: a tiny PVH kernel made here, byte by byte. C(linux_guest.py) makes a Linux.

The PVH guest needs no Linux, no assembler and no firmware. It is a 64-bit ELF file with the Xen note that names a 32-bit entry point, which
Firecracker, Cloud Hypervisor and QEMU (C(-kernel)) all boot. It prints a line on the first serial port and then does one thing (C(THEN)).
It is small enough to run also where KVM has neither vmx nor svm, and a stock kernel does not get through.
"""

from __future__ import annotations

import struct
import typing as t

# What the guest does after its greeting:
#   halt         stops its CPU with interrupts off, for ever
#   reset        pulses the i8042's reset line: Firecracker exits 0, Cloud Hypervisor and QEMU reboot (and greet again; a microvm after a second)
#   poweroff     asks ACPI of Cloud Hypervisor and QEMU's q35 for S5; where there is none (Firecracker, microvm), like reset
#   triple_fault has an exception without a handler
#   spam         prints lines for ever, as fast as it can
#   tick         prints "tick 1", "tick 2"… a few times a second, for ever
#   cmdline      prints "cmdline: " and the command line it was given, then halts
#   echo         sends back what it reads from the serial port
#   polite       waits to be asked to shut down (QEMU's power button on q35, Firecracker's Ctrl+Alt+Del), prints "goodbye", powers off
THEN = ("halt", "reset", "poweroff", "triple_fault", "spam", "tick", "cmdline", "echo", "polite")

LOAD_ADDRESS = 0x100000
_HEADERS_SIZE = 64 + 2 * 56
_NOTE_SIZE = 24
_CODE_ADDRESS = LOAD_ADDRESS + _HEADERS_SIZE + _NOTE_SIZE
_STACK_SIZE = 4096
# QEMU looks for the header of a bzImage in the first bytes, also in a file that is shorter than that.
_FILE_SIZE_MIN = 1024

# About a quarter of a second of a time-stamp counter between 1 and 4 GHz.
_TICK_CYCLES = 0x20000000


class Code:
    """i386 machine code with labels: just enough of an assembler for a screenful of instructions."""

    def __init__(self, base: int) -> None:
        self._base = base
        self._bytes = bytearray()
        self._labels: dict[str, int] = {}
        self._fixups: list[tuple[int, str, bool]] = []

    def put(self, *parts: bytes | int | str) -> None:
        """Opcodes as hex text, immediate 32-bit values as int."""
        for part in parts:
            self._bytes += bytes.fromhex(part) if isinstance(part, str) else struct.pack("<I", part) if isinstance(part, int) else part

    def label(self, name: str) -> None:
        self._labels[name] = len(self._bytes)

    def near(self, opcode: str, label: str) -> None:
        """An instruction that ends in a 32-bit offset relative to the next one: jmp e9, call e8, jz 0f84, jnz 0f85, jb 0f82."""
        self.put(opcode)
        self._fixups.append((len(self._bytes), label, True))
        self.put(0)

    def address(self, opcode: str, label: str) -> None:
        """An instruction that ends in a 32-bit absolute address."""
        self.put(opcode)
        self._fixups.append((len(self._bytes), label, False))
        self.put(0)

    def text(self, name: str, value: str) -> None:
        self.label(name)
        self.put(value.encode() + b"\0")

    def fill(self, size: int) -> None:
        """Pads to at least C(size) bytes, and to a multiple of 16."""
        length = max(size, len(self._bytes))
        self._bytes += bytes(length + -length % 16 - len(self._bytes))

    def out_byte(self, port: int, value: int) -> None:
        self.put("66ba", struct.pack("<H", port), "b0", bytes([value]), "ee")  # mov dx, port; mov al, value; out dx, al

    def out_word(self, port: int, value: int) -> None:
        self.put("66ba", struct.pack("<H", port), "66b8", struct.pack("<H", value), "66ef")  # mov dx, port; mov ax, value; out dx, ax

    def in_byte(self, port: int) -> None:
        self.put("66ba", struct.pack("<H", port), "ec")

    def in_word(self, port: int) -> None:
        self.put("66ba", struct.pack("<H", port), "66ed")

    def print(self, label: str) -> None:
        self.address("be", label)  # mov esi, label
        self.near("e8", "print")

    def assemble(self) -> bytes:
        for at, label, relative in self._fixups:
            target = self._labels[label]
            struct.pack_into("<I", self._bytes, at, (target - (at + 4)) & 0xFFFFFFFF if relative else self._base + target)
        return bytes(self._bytes)


def _subroutines(code: Code) -> None:
    code.label("print")  # the text at esi, up to its NUL
    code.put("ac", "84c0")  # lodsb; test al, al
    code.near("0f84", "print_done")
    code.near("e8", "put")
    code.near("e9", "print")
    code.label("print_done")
    code.put("c3")

    code.label("put")  # al; waits for the transmitter, or a slow reader of the console would lose characters
    code.put("88c4")  # mov ah, al
    code.label("put_wait")
    code.in_byte(0x3FD)
    code.put("a820")  # test al, 0x20
    code.near("0f84", "put_wait")
    code.put("88e0", "66baf803", "ee", "c3")  # mov al, ah; mov dx, 0x3f8; out dx, al; ret

    code.label("delay")  # ecx cycles
    code.put("0f31", "89c7")  # rdtsc; mov edi, eax
    code.label("delay_wait")
    code.put("f390", "0f31", "29f8", "39c8")  # pause; rdtsc; sub eax, edi; cmp eax, ecx
    code.near("0f82", "delay_wait")
    code.put("c3")

    code.label("number")  # eax in decimal: digits wait on the stack, the highest on top
    code.put("31db")  # xor ebx, ebx
    code.label("number_split")
    code.put("31d2", "b9", 10, "f7f1", "52", "43", "85c0")  # xor edx, edx; mov ecx, 10; div ecx; push edx; inc ebx; test eax, eax
    code.near("0f85", "number_split")
    code.label("number_put")
    code.put("58", "0430")  # pop eax; add al, '0'
    code.near("e8", "put")
    code.put("4b")  # dec ebx
    code.near("0f85", "number_put")
    code.put("c3")


def halt(code: Code) -> None:
    code.label("halt")
    code.put("fa", "f4")  # cli; hlt
    code.near("e9", "halt")


def _reset(code: Code) -> None:
    code.out_byte(0x64, 0xFE)
    # Still here: QEMU's microvm has no i8042, and takes a triple fault for a reset.
    code.put("b9", 4 * _TICK_CYCLES)
    code.near("e8", "delay")
    _triple_fault(code)


def _poweroff(code: Code) -> None:
    code.out_byte(0x600, 0x34)  # Cloud Hypervisor's sleep control; on QEMU this clears harmless status bits
    code.out_word(0x604, 0x2000)  # PM1a control of QEMU's q35, as its firmware places it
    code.put("b9", _TICK_CYCLES)
    code.near("e8", "delay")
    _reset(code)


def _triple_fault(code: Code) -> None:
    code.address("0f011d", "no_handlers")  # lidt [no_handlers]
    code.put("cc")  # int3
    halt(code)
    code.label("no_handlers")
    code.put(bytes(6))


def _spam(code: Code) -> None:
    code.label("spam")
    code.print("spam_line")
    code.near("e9", "spam")
    code.text("spam_line", "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz\r\n")


def _tick(code: Code) -> None:
    code.put("31ed")  # xor ebp, ebp
    code.label("tick")
    code.put("45")  # inc ebp
    code.print("tick_word")
    code.put("89e8")  # mov eax, ebp
    code.near("e8", "number")
    code.print("line_end")
    code.put("b9", _TICK_CYCLES)
    code.near("e8", "delay")
    code.near("e9", "tick")
    code.text("tick_word", "tick ")
    code.text("line_end", "\r\n")


def _cmdline(code: Code) -> None:
    code.print("cmdline_word")
    code.put("8b7318")  # mov esi, [ebx + 24]: cmdline_paddr of struct hvm_start_info
    code.near("e8", "print")
    code.print("line_end")
    halt(code)
    code.text("cmdline_word", "cmdline: ")
    code.text("line_end", "\r\n")


def _echo(code: Code) -> None:
    code.label("echo")
    code.in_byte(0x3FD)
    code.put("a801")  # test al, 1
    code.near("0f84", "echo")
    code.in_byte(0x3F8)
    code.near("e8", "put")
    code.near("e9", "echo")


def _polite(code: Code) -> None:
    # A port without a device may answer with the bytes of the last access: only a value that survives an access to another port
    # shows that there are ACPI registers to ask. ebp keeps it.
    code.out_word(0x80, 0)
    code.in_word(0x602)
    code.put("0fb7e8")  # movzx ebp, ax
    code.label("polite")
    code.put("f390")
    code.in_byte(0x64)
    code.put("a801")  # output buffer full
    code.near("0f84", "polite_acpi")
    code.in_byte(0x60)
    code.put("3c71")  # cmp al, 0x71: Del, in the scan code set that Firecracker types
    code.near("0f84", "goodbye")
    code.label("polite_acpi")
    code.put("81fd", 0x0100)  # cmp ebp, 0x100
    code.near("0f85", "polite")
    code.in_word(0x600)
    code.put("f6c401")  # test ah, 1: power button
    code.near("0f84", "polite")
    code.label("goodbye")
    code.print("goodbye_line")
    _poweroff(code)
    code.text("goodbye_line", "goodbye\r\n")


_ENDINGS = {
    "halt": halt,
    "reset": _reset,
    "poweroff": _poweroff,
    "triple_fault": _triple_fault,
    "spam": _spam,
    "tick": _tick,
    "cmdline": _cmdline,
    "echo": _echo,
    "polite": _polite,
}


def pvh_guest(greeting: str, then: str = "halt") -> bytes:
    """The ELF file of a guest that prints C(greeting) and a line end on the first serial port, then does C(then) (see C(THEN))."""
    return guest_of(greeting, _ENDINGS[then])


def guest_of(greeting: str, then: t.Callable[[Code], None]) -> bytes:
    """As C(pvh_guest); C(then) writes what it does, and must not come to its end."""
    code = Code(_CODE_ADDRESS)
    code.put("fa", "fc")  # cli; cld
    code.address("bc", "stack_bottom")  # mov esp, stack_bottom
    code.put("81c4", _STACK_SIZE)  # add esp, size: the stack lies behind the file's bytes
    if then is _polite:
        # Before the greeting: whoever has seen it may press the button, and what was pressed stays in the status.
        code.out_word(0x602, 0x0100)  # PM1a enable: power button
    code.print("greeting")
    then(code)
    _subroutines(code)
    code.text("greeting", greeting + "\r\n")
    code.fill(_FILE_SIZE_MIN)
    code.label("stack_bottom")
    return _elf(code.assemble())


def _elf(code: bytes) -> bytes:
    """One segment that holds the whole file (so addresses in the file are addresses in memory), one with the PVH note."""
    size = _HEADERS_SIZE + _NOTE_SIZE + len(code)
    # namesz, descsz, type 18 = XEN_ELFNOTE_PHYS32_ENTRY; loaders read the entry as 64 bits, as Linux writes it
    note = struct.pack("<III4sQ", 4, 8, 18, b"Xen\0", _CODE_ADDRESS)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, _CODE_ADDRESS, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 7, 0, LOAD_ADDRESS, LOAD_ADDRESS, size, size + _STACK_SIZE + 16, 4096)
    notes = struct.pack("<IIQQQQQQ", 4, 4, _HEADERS_SIZE, LOAD_ADDRESS + _HEADERS_SIZE, LOAD_ADDRESS + _HEADERS_SIZE, len(note), len(note), 4)
    return header + load + notes + note + code
