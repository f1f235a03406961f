# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fake Cloud Hypervisor's serial port, and a guest that is a few lines of text."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
import tty
import typing as t

_RESET = bytes.fromhex("66ba6400b0feee")  # mov dx, 0x64; mov al, 0xfe; out dx, al
_POWEROFF = bytes.fromhex("66ba0006b034ee")  # mov dx, 0x600; mov al, 0x34; out dx, al


class Serial:
    """Opened when the VM is created, as the real one does. C(path): of the pty, for vm.info."""

    def __init__(self, config: dict[str, t.Any]) -> None:
        """OSError as for the real one; KeyError for a mode without its path, where the real one panics."""
        self.path: str | None = None
        self._fd: int | None = None
        self._slave: int | None = None
        self._socket_path: str | None = None
        self._clients: list[socket.socket] = []
        self._text = b""
        mode = config["mode"]
        if mode == "Tty":
            self._fd = os.dup(1)
        elif mode == "File":
            self._fd = os.open(config["file"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        elif mode == "Pty":
            # The other end stays open, or what is written before somebody looks would be lost.
            self._fd, self._slave = os.openpty()
            tty.setraw(self._slave)
            self.path = os.ttyname(self._slave)
        elif mode == "Socket":
            self._socket_path = config["socket"]
            self._listen()

    def _listen(self) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self._socket_path or "")
        listener.listen()
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            client, _address = listener.accept()
            self._clients.append(client)
            with contextlib.suppress(OSError):
                client.sendall(self._text)

    def write(self, text: str) -> None:
        self._text = (self._text + text.encode())[-65536:]
        if self._fd is not None:
            os.write(self._fd, text.encode())
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.sendall(text.encode())

    def close(self) -> None:
        for fd in (self._fd, self._slave):
            if fd is not None:
                os.close(fd)
        self._fd = self._slave = None
        if self._socket_path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._socket_path)


class Guest(threading.Thread):
    """Prints and ends as the kernels of C(tests/guests.py) do, told apart by what is in them; any other kernel prints C(FAKE_GUEST_GREETING).

    It sees the power button when it is one that listens (C(polite)), or no kernel of those; C(on_end) gets C(poweroff) or C(reset)."""

    def __init__(self, kernel: bytes, command_line: str, serial: Serial, on_end: t.Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        texts = re.findall(rb"([\x20-\x7e]+\r\n)\0", kernel)
        self._greeting = texts[-1].decode() if texts else os.environ.get("FAKE_GUEST_GREETING", "")
        self._cmdline = f"cmdline: {command_line}\r\n" if b"cmdline: \0" in kernel else ""
        self._ticks = b"tick \0" in kernel
        self._polite = (b"goodbye\r\n\0" in kernel or not texts) and "FAKE_GUEST_STUBBORN" not in os.environ
        at_once = b"goodbye\r\n\0" not in kernel
        self._ending = "poweroff" if at_once and _POWEROFF in kernel else "reset" if at_once and _RESET in kernel else ""
        self._serial = serial
        self._on_end = on_end
        self._gone = False
        self.running, self.asked = threading.Event(), threading.Event()
        self.running.set()
        self._printing = threading.Lock()

    def pause(self) -> None:
        """When it is through, nothing more is printed."""
        with self._printing:
            self.running.clear()

    def stop(self) -> None:
        self._gone = True
        self.running.set()
        self.asked.set()

    def run(self) -> None:
        self._print(self._greeting + self._cmdline)
        if self._ending:
            self.asked.wait(0.02)
            if not self._gone:
                self._on_end(self._ending)
            return
        tick = 0
        while not self._gone:
            pressed = self.asked.wait(0.25)
            self.running.wait()
            if self._gone:
                return
            self.asked.clear()
            if pressed and self._polite:
                time.sleep(0.05)  # no guest is so fast that the caller would miss its reply
                self._print("goodbye\r\n")
                self._on_end("poweroff")
                return
            if self._ticks:
                tick += 1
                self._print(f"tick {tick}\r\n")

    def _print(self, text: str) -> None:
        while not self._gone:
            self.running.wait()
            with self._printing:
                if self.running.is_set():
                    if text and not self._gone:
                        self._serial.write(text)
                    return
