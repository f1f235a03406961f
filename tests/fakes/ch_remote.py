#!/usr/bin/env python3
# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for ch-remote, version 53.0: the commands that need no more than one request, its texts and exit codes."""

from __future__ import annotations

import json
import pathlib
import re
import socket
import sys

VERSION = "53.0.0"
# Command: method, call, prints its reply
_COMMANDS = {
    "ping": ("GET", "vmm.ping", True),
    "info": ("GET", "vm.info", True),
    "counters": ("GET", "vm.counters", True),
    "create": ("PUT", "vm.create", False),
    "boot": ("PUT", "vm.boot", False),
    "delete": ("PUT", "vm.delete", False),
    "pause": ("PUT", "vm.pause", False),
    "resume": ("PUT", "vm.resume", False),
    "power-button": ("PUT", "vm.power-button", False),
    "shutdown": ("PUT", "vm.shutdown", False),
    "shutdown-vmm": ("PUT", "vmm.shutdown", False),
}
_STATUS_WORDS = {400: "BadRequest", 404: "NotFound", 500: "InternalServerError"}


def install(directory: pathlib.Path, python: str = sys.executable) -> pathlib.Path:
    """Writes a C(ch-remote) into C(directory) that runs this file with that interpreter. Its path."""
    target = directory / "ch-remote"
    target.write_text(f'#!/bin/sh\nexec "{python}" "{pathlib.Path(__file__).resolve()}" "$@"\n')
    target.chmod(0o755)
    return target


def fail(*causes: str) -> int:
    chain = "".join(f"\n  {at}: {cause}" for at, cause in enumerate(causes))
    sys.stderr.write(f"Error: ch-remote exited with the following chain of errors:{chain}\n")
    return 1


def usage(message: str) -> int:
    sys.stderr.write(f"error: {message}\n\nUsage: ch-remote [OPTIONS] <COMMAND>\n\nFor more information, try '--help'.\n")
    return 2


def request(path: str, method: str, call: str, body: bytes | None) -> tuple[int, bytes]:
    """OSError when nobody answers."""
    head = f"{method} /api/v1/{call} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(head.encode() + b"\r\n" + (body or b""))
        stream = client.makefile("rb")
        status = int(stream.readline().split()[1])
        length = 0
        while line := stream.readline().strip():
            found = re.match(rb"content-length:\s*(\d+)", line, re.IGNORECASE)
            length = int(found[1]) if found else length
        return status, stream.read(length)


def main(words: list[str]) -> int:
    if words in (["-V"], ["--version"]):
        print(f"ch-remote v{VERSION}")
        return 0
    socket_path = None
    if words[:1] == ["--api-socket"]:
        socket_path, words = words[1], words[2:]
    misuse = _misuse(words)
    if misuse:
        return usage(misuse)
    if socket_path is None:
        sys.stderr.write("Please either provide the api-socket option or dbus-service-name and dbus-object-path options\n")
        return 1
    return run(socket_path, *words)


def _misuse(words: list[str]) -> str:
    if not words:
        return "'ch-remote' requires a subcommand but one was not provided"
    if words[0] not in _COMMANDS:
        return f"unrecognized subcommand '{words[0]}'"
    if len(words) - 1 != (words[0] == "create"):
        return f"the arguments {words[1:]} do not fit the subcommand '{words[0]}'"
    return ""


def run(socket_path: str, command: str, *arguments: str) -> int:
    body = None
    if command == "create":
        try:
            body = pathlib.Path(arguments[0]).read_bytes()
        except OSError as exc:
            return fail("Error reading from file", f"{exc.strerror} (os error {exc.errno})")
    method, call, prints = _COMMANDS[command]
    try:
        status, reply = request(socket_path, method, call, body)
    except OSError as exc:
        sys.stderr.write(f"Error opening HTTP socket: {exc.strerror} (os error {exc.errno})\n")
        return 1
    if status >= 300:
        return fail("http client error", f"Server responded with {_STATUS_WORDS.get(status, status)}", *_causes(reply))
    if prints:
        print(reply.decode())
    return 0


def _causes(reply: bytes) -> list[str]:
    try:
        value = json.loads(reply)
    except ValueError:
        return [reply.decode("utf-8", "replace")]
    return [str(cause) for cause in value] if isinstance(value, list) else [str(value)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
