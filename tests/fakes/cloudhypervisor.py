#!/usr/bin/env python3
# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A strict stand-in for the cloud-hypervisor binary, version 53.0: command line, API, state machine, error bodies and exit codes, without a VM.

Named C(cloud-hypervisor) on PATH (C(install)) it is started like the real one. Every request and reply is also checked against Cloud Hypervisor's own API
document where that is beside the clone, less its known errors: a request that the document would not have is refused with a text that begins with
C([document]). Fields that the real one would ignore are refused with C([fake]). Environment:
  FAKE_VMM_FAULT        one of micro_http.FAULTS, or C(boot): every boot fails
  FAKE_VMM_VERSION      C(52.0), C(46.0)…: says so, and answers as that version did
  FAKE_GUEST_GREETING   what a kernel that is not of tests/guests.py prints
  FAKE_GUEST_STUBBORN   set: the power button is ignored
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import pathlib
import signal
import socket
import sys
import threading
import typing as t

if not __package__:
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "fakes"

from .cloudhypervisor_fields import Unreadable, deserialize
from .cloudhypervisor_vm import NO_VM, Panicked, Refused, Vm
from .micro_http import FAULTS, Server
from .openapi import Document, find

VERSION = os.environ.get("FAKE_VMM_VERSION", "53.0")
DOCUMENT = "cloud-hypervisor-v53.0.yaml"
BASE = "/api/v1/"
_GET = ("vmm.ping", "vm.info", "vm.counters")
_WITH_BODY = ("vm.create", "vm.resize-disk")
_PUT = ("vm.boot", "vm.pause", "vm.resume", "vm.power-button", "vm.shutdown", "vm.delete", "vmm.shutdown")
# The document against the code, as far as this fake goes: 204 for vmm.shutdown where 200 is real, and these keys of vm.info that it does not have.
_UNDOCUMENTED_KEYS = ("profile", "parent", "disable_io_uring", "disable_aio")


def install(directory: pathlib.Path, python: str = sys.executable) -> pathlib.Path:
    """Writes a C(cloud-hypervisor) into C(directory) that runs this file with that interpreter. Its path."""
    target = directory / "cloud-hypervisor"
    target.write_text(f'#!/bin/sh\nexec "{python}" "{pathlib.Path(__file__).resolve()}" "$@"\n')
    target.chmod(0o755)
    return target


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> t.NoReturn:
        sys.stderr.write(f"error: {message}\n\nUsage: cloud-hypervisor [OPTIONS]\n\nFor more information, try '--help'.\n")
        sys.exit(2)


def parse(words: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="cloud-hypervisor", allow_abbrev=False)
    parser.add_argument("--api-socket")
    parser.add_argument("--event-monitor")
    parser.add_argument("--log-file")
    parser.add_argument("--log-format")
    parser.add_argument("--seccomp", choices=("true", "false", "log", "errno"), default="true")
    parser.add_argument("--no-shutdown", action="store_true")
    parser.add_argument("-v", action="count", dest="verbosity")
    parser.add_argument("-V", "--version", action="store_true")
    return parser.parse_args(words)


def fail(*causes: str) -> t.NoReturn:
    chain = "".join(f"\n  {at}: {cause}" for at, cause in enumerate(causes))
    sys.stderr.write(f"Error: Cloud Hypervisor exited with the following chain of errors:{chain}\n")
    sys.exit(1)


def listen(path: str) -> socket.socket:
    """The lock decides who owns the socket; a stale one is removed. The lock file stays for ever."""
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        fail("Failed to start the VMM thread", "Error creation API server's socket", f"{exc.strerror} (os error {exc.errno})")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fail("Failed to start the VMM thread", f'API socket "{path}" is already in use by another running instance')
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(path)
    except OSError as exc:
        fail("Failed to start the VMM thread", "Error creation API server's socket", f"{exc.strerror or exc} (os error {exc.errno})")
    listener.listen()
    return listener


class Api:
    """Requests to a Vm and back. C(code): how the process has to end, once C(ended) is set."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.code = 0
        self.vm = Vm(self.ended.set)
        self._looked = False
        self._document: Document | None = None
        self._version = tuple(int(part) for part in VERSION.split("."))

    def handle(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes | None]:
        call = path.removeprefix(BASE)
        return self._misaddressed(method, path, body) or self._handle(method, call, body)

    def _misaddressed(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes | None] | None:
        call = path.removeprefix(BASE)
        if path == call or call not in (*_GET, *_PUT, *_WITH_BODY):
            return 404, b'["Not Found"]'
        if method == "PATCH" or (call in _WITH_BODY and method == "PUT" and not body):
            return 400, None
        if method != ("GET" if call in _GET else "PUT") or (call in _PUT and body):
            return 400, b'["Bad Request"]'
        return None

    def _handle(self, method: str, call: str, body: bytes | None) -> tuple[int, bytes | None]:
        try:
            if call == "vm.create":
                deserialize(json.loads(body or b""))
            self._check(lambda document: document.request_errors(method, f"/{call}", json.loads(body) if body else None))
            status, reply = self._answer(call, body)
            if call != "vmm.shutdown":
                self._check(lambda document: document.reply_errors(method, f"/{call}", status, reply))
        except Refused as exc:
            return self._refusal(exc.causes)
        except (Unreadable, ValueError) as exc:
            return 400, json.dumps(["Failed to deserialize JSON", f"{exc} at line 1 column 1"]).encode()
        except Panicked:
            self.code = 1
            threading.Timer(0.05, self.ended.set).start()
            return 500, json.dumps(["Error from API", "API response receive error", "receiving on a closed channel"]).encode()
        return status, b"" if call == "vmm.shutdown" else None if reply is None else json.dumps(reply).encode()

    def _refusal(self, causes: t.Sequence[str]) -> tuple[int, bytes]:
        no_vm = self._version >= (53, 0) and causes[-1] in NO_VM
        body = json.dumps(causes) if self._version >= (47, 0) else ": ".join(causes[1:])
        return 404 if no_vm else 500, body.encode()

    def _answer(self, call: str, body: bytes | None) -> tuple[int, t.Any]:
        if call == "vmm.ping":
            return 200, {"build_version": f"v{VERSION}.0", "version": f"{VERSION}.0", "pid": os.getpid(), "features": ["io_uring", "kvm"]}
        if call == "vm.info":
            return 200, self.vm.info()
        if call == "vm.counters":
            return 200, self.vm.counters()
        if call == "vm.create":
            self.vm.create(json.loads(body or b""))
        elif call == "vm.resize-disk":
            self.vm.resize_disk(json.loads(body or b""))
        elif call == "vmm.shutdown":
            threading.Timer(0.05, self.ended.set).start()
            return 200, None
        else:
            getattr(self.vm, call.removeprefix("vm.").replace("-", "_"))()
        return 204, None

    def _check(self, errors_by: t.Callable[[Document], list[str]]) -> None:
        if not self._looked:
            self._looked, self._document = True, find(DOCUMENT)
        if self._document is None:
            return
        serious = [error for error in errors_by(self._document) if not any(f".{key} is unknown" in error for key in _UNDOCUMENTED_KEYS)]
        if serious:
            raise Refused(*(f"[document] {error}" for error in serious))


def main(words: list[str]) -> int:
    given = parse(words)
    if given.version:
        print(f"cloud-hypervisor v{VERSION}.0\nMigration Protocol Versions: 0")
        return 0
    if not given.api_socket:
        sys.stderr.write("Launch a cloud-hypervisor VMM.\n\nUsage: cloud-hypervisor [OPTIONS]\n")
        return 2
    os.umask(0o077)
    path = given.api_socket.removeprefix("path=")
    api = Api()
    fault = os.environ.get("FAKE_VMM_FAULT", "")
    server = Server(listen(path), api.handle, "Cloud Hypervisor API", fault=fault if fault in FAULTS else "", methods=(b"GET", b"PUT", b"PATCH"))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_args: api.ended.set())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # Python runs what a signal calls in this thread alone, which nothing wakes when the signal has come to another.
    while not api.ended.wait(0.2):
        pass
    server.drain()
    api.vm.delete()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    if api.code:
        sys.stderr.write("Error: Cloud Hypervisor exited with the following error:\n  Failed to join on VMM thread: Any { .. }\n")
    sys.stdout.flush()
    # Threads that a fault keeps in a request must not keep the process.
    os._exit(api.code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
