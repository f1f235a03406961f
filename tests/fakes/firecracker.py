#!/usr/bin/env python3
# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A strict stand-in for the firecracker binary, version 1.16.1 unless told another: its command line, API, state machine, error texts and exit codes,
without a VM.

Named C(firecracker) on PATH (C(install)) it is started like the real one. Every request and reply is also checked against Firecracker's own API
document where that is beside the clone: a request that we would accept and the document would not is refused with a text that begins
with C([document]).

The kernel decides what its "guest" prints and does, as far as C(tests/guests.py) made it; any other ELF file prints C(FAKE_GUEST_GREETING) and
obeys Ctrl+Alt+Del. Environment:
  FAKE_VMM_FAULT        one of micro_http.FAULTS
  FAKE_GUEST_GREETING   what a kernel that is not of tests/guests.py prints
  FAKE_GUEST_STUBBORN   set: Ctrl+Alt+Del is ignored
  FAKE_VMM_VERSION      what it says of itself; it behaves as 1.16.1 all the same
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import sys
import threading
import time
import typing as t

if __name__ == "__main__":
    # Started as a process, like the real one: the checkout under its collection's name, as tests/conftest.py links it.
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from ansible_collections.unkey.vmcp.tests.fakes.firecracker_microvm import Fault, MicroVm
from ansible_collections.unkey.vmcp.tests.fakes.micro_http import Server
from ansible_collections.unkey.vmcp.tests.fakes.openapi import Document, find

VERSION = os.environ.get("FAKE_VMM_VERSION", "1.16.1")
DOCUMENT = "firecracker-v1.16.1.yaml"
# In the code and not in the document: hot-unplug, and surplus segments of a path.
_UNDOCUMENTED = re.compile(r"DELETE .*|GET /version/.*")

_FLAGS = {"--no-api", "--no-seccomp", "--boot-timer", "--enable-pci", "--show-level", "--show-log-origin", "--version", "--help", "--snapshot-version"}
_VALUES = {
    "--api-sock", "--id", "--config-file", "--metadata", "--seccomp-filter", "--http-api-max-payload-size", "--mmds-size-limit", "--log-path", "--level",
    "--module", "--metrics-path", "--start-time-us", "--start-time-cpu-us", "--parent-cpu-time-us", "--describe-snapshot",
}  # fmt: skip
_LEVELS = ("off", "trace", "debug", "info", "warn", "warning", "error")
_ID_MAX = 64


def install(directory: pathlib.Path, python: str = sys.executable) -> pathlib.Path:
    """Writes a C(firecracker) into C(directory) that runs this file with that interpreter. Its path."""
    target = directory / "firecracker"
    target.write_text(f'#!/bin/sh\nexec "{python}" "{pathlib.Path(__file__).resolve()}" "$@"\n')
    target.chmod(0o755)
    return target


class Log:
    """Firecracker's log: stdout, together with the guest's console, until it is given a path."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._file: t.TextIO = sys.stdout
        self._quiet = False

    def to(self, path: str | None, level: str | None) -> None:
        if path:
            self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115 - open as long as the process lives
        self._quiet = (level or "info").lower() not in ("trace", "debug", "info")

    def info(self, text: str) -> None:
        if not self._quiet:
            self.error(text)

    def error(self, text: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
        print(f"{stamp}.000000000 [{self._instance}:main] {text}", file=self._file, flush=True)


class Exit(Exception):
    """Ends the process with an exit code; the text goes to stderr as Rust's main prints it."""

    def __init__(self, code: int, log: str, stderr: str) -> None:
        super().__init__(log)
        self.code, self.log, self.stderr = code, log, stderr


def parse(words: list[str]) -> dict[str, str]:
    """Firecracker's own parser: C(--name value) and nothing else. Flags have the value C("")."""
    given: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word not in _FLAGS | _VALUES:
            raise Exit(
                153,
                f"Arguments parsing error: Found argument '{word.lstrip('-')}' which wasn't expected",
                f'ParseArguments(UnexpectedArgument("{word.lstrip("-")}"))',
            )
        if word in given:
            raise Exit(
                153, f"Arguments parsing error: The argument '{word[2:]}' was provided more than once.", f'ParseArguments(DuplicateArgument("{word[2:]}"))'
            )
        if word in _VALUES and not rest:
            raise Exit(153, f"Arguments parsing error: The argument '{word[2:]}' requires a value.", f'ParseArguments(MissingValue("{word[2:]}"))')
        given[word] = rest.pop(0) if word in _VALUES else ""
    if "--no-seccomp" in given and "--seccomp-filter" in given:
        raise Exit(
            153, "Arguments parsing error: Argument 'no-seccomp' cannot be used together with argument 'seccomp-filter'.", "ParseArguments(ForbiddenArgument)"
        )
    return given


def main(words: list[str]) -> int:
    log = Log("anonymous-instance")
    try:
        given = parse(words)
        if "--version" in given:
            print(f"Firecracker v{VERSION}\n")
            log.info("Firecracker exiting successfully. exit_code=0")
            return 0
        log = Log(given.get("--id", "anonymous-instance"))
        run(given, log)
    except Exit as exc:
        log.error(exc.log)
        log.error(f"Firecracker exiting with error. exit_code={exc.code}")
        print(f"Error: {exc.stderr}", file=sys.stderr, flush=True)
        return exc.code
    return 0


def run(given: dict[str, str], log: Log) -> None:
    instance = given.get("--id", "anonymous-instance")
    if not re.fullmatch(rf"[A-Za-z0-9-]{{1,{_ID_MAX}}}", instance):
        panic(log, f"Invalid instance ID: {instance}")
    if given.get("--level", "Info").lower() not in _LEVELS:
        raise Exit(152, f"Invalid value for logger level: {given['--level']}", f'InvalidLogLevel(LevelFilterFromStrError("{given["--level"]}"))')
    log.to(given.get("--log-path"), given.get("--level"))
    log.info(f"Running Firecracker v{VERSION}")
    texts = {flag: _read(given[flag], log) for flag in ("--config-file", "--metadata") if flag in given}
    ended = threading.Event()
    microvm = MicroVm(instance, VERSION, int(given.get("--mmds-size-limit", "51200")), ended.set, pci="--enable-pci" in given)
    server = None
    if "--no-api" not in given:
        listener = _listen(given.get("--api-sock", "/run/firecracker.socket"))
        server = Server(
            listener,
            Api(microvm, log).handle,
            "Firecracker API",
            fault=os.environ.get("FAKE_VMM_FAULT", ""),
            payload_max=int(given.get("--http-api-max-payload-size", "51200")),
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
    if "--config-file" in texts:
        try:
            microvm.configure(texts["--config-file"], texts.get("--metadata"))
        except Fault as exc:
            raise Exit(1, f"RunWithApiError error: Failed to build MicroVM from Json: {exc}", f"RunWithApi(BuildFromJson({exc}))") from exc
    ended.wait()
    if server is not None:
        server.drain()
    log.info("Firecracker exiting successfully. exit_code=0")


def _read(path: str, log: Log) -> str:
    try:
        return pathlib.Path(path).read_text(encoding="utf-8")
    except OSError as exc:
        panic(log, f"Unable to open or read from the configuration file: {exc}")


def panic(log: Log, text: str) -> t.NoReturn:
    """Rust's way: SIGABRT."""
    log.error(f"Firecracker panicked at {text}")
    signal.signal(signal.SIGABRT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGABRT)
    raise AssertionError("unreachable")


def _listen(path: str) -> socket.socket:
    """Any file of that name, live or stale, is an error, and the socket is never unlinked."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(path)
    except OSError as exc:
        raise Exit(
            1,
            f"RunWithApiError error: Failed to open the API socket at: {path}. Check that it is not already used.",
            f'RunWithApi(FailedToBindSocket("{path}"))',
        ) from exc
    listener.listen()
    return listener


class Api:
    """Requests to a MicroVm and back, each checked against the document."""

    def __init__(self, microvm: MicroVm, log: Log) -> None:
        self._microvm = microvm
        self._log = log
        self._document: Document | None = None
        self._looked = False

    def handle(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes | None]:
        self._log.info(f'The API server received a {method} request on "{path}".')
        try:
            value = self._microvm.request(method, path, body)
            status, reply = (204, None) if value is None else (200, value)
            self._check(method, path, body, status, reply)
        except Fault as exc:
            status, reply = exc.status, {"fault_message": str(exc)}
        return status, None if reply is None else json.dumps(reply).encode()

    def _check(self, method: str, path: str, body: bytes | None, status: int, reply: t.Any) -> None:
        if not self._looked:
            self._looked, self._document = True, find(DOCUMENT)
        if self._document is None or _UNDOCUMENTED.fullmatch(f"{method} {path}"):
            return
        errors = self._document.request_errors(method, path, json.loads(body) if body else None)
        errors += self._document.reply_errors(method, path, status, reply)
        if errors:
            raise Fault("[document] " + "; ".join(errors))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        code = main(sys.argv[1:])
        sys.stdout.flush()
        # The threads that serve the API are still about.
        os._exit(code)
