# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(vmcp_console): a VM's console as data. Standard library only.

An offset speaks of one boot: C({boot_id, offset}). Offsets stay valid when old output is trimmed, because trimming leaves a hole in the file; one of an
earlier boot begins at the start of this one.
"""

from __future__ import annotations

import os
import re
import typing as t

from ..call import Call, Outcome
from ..errors import FailedPrecondition, InvalidArgument, NotFound, Violation
from ..host import events, files, processes
from ..host.layout import Layout, VmLayout
from ..host.store import Store
from ..model.definition import Definition
from ..model.words import NAME_PATTERN, NAME_RULE
from .live import require
from .vm_target import LiveVm

# One result must not fill the controller's memory, whatever a guest prints.
MAX_BYTES_LIMIT = 16 << 20


def run_console(call: Call) -> Outcome:
    options = call.options
    _check(options)
    store = Store(Layout.resolve(options.get("state_dir"), options.get("run_dir"), call.environ, call.uid))
    name = str(options["name"])
    definition = require(store, name, "read the console of")
    vm = store.layout.vm(name)
    path = _path(definition, vm, bool(options.get("previous")))
    boot_id = _boot_id(vm)
    waited = None
    if options.get("wait_for") and call.act:
        waited = _wait(definition, vm, path, options)
    since = options.get("since") or {}
    start = int(since.get("offset", 0)) if since.get("boot_id") == boot_id and not options.get("previous") else 0
    text, offset, dropped = read_from(path, start, int(options["max_bytes"]))
    lines = text.splitlines()
    if options.get("lines") is not None:
        lines = lines[-int(options["lines"]) :] if int(options["lines"]) else []
    result: dict[str, t.Any] = {
        "changed": False,
        "name": name,
        "boot_id": boot_id,
        "offset": offset,
        "position": {"boot_id": boot_id, "offset": offset},
        "lines": lines,
        "text": "\n".join(lines),
        "dropped_bytes": dropped,
        "path": path,
    }
    if waited is not None:
        result["waited"] = waited
    return Outcome(result)


def _check(options: t.Mapping[str, t.Any]) -> None:
    violations = []
    if not re.fullmatch(NAME_PATTERN, str(options["name"])):
        violations.append(Violation("name", f"must be {NAME_RULE}"))
    since = options.get("since") or {}
    offset = since.get("offset", 0)
    if set(since) - {"boot_id", "offset"} or not re.fullmatch("[0-9]{1,18}", str(offset)):
        violations.append(Violation("since", "must be the 'position' of an earlier result: {boot_id, offset}"))
    if int(options.get("lines") or 0) < 0:
        violations.append(Violation("lines", "must not be negative"))
    if not 1 <= int(options["max_bytes"]) <= MAX_BYTES_LIMIT:
        violations.append(Violation("max_bytes", f"must be 1 to {MAX_BYTES_LIMIT}"))
    if options.get("wait_for"):
        if options.get("previous"):
            violations.append(Violation("wait_for", "cannot be met by the previous boot any more. Leave out one of the two."))
        try:
            re.compile(str(options["wait_for"]))
        except (re.error, OverflowError, RecursionError) as exc:
            violations.append(Violation("wait_for", f"is no regular expression that Python understands: {exc}"))
    if violations:
        raise InvalidArgument.of(violations)


def _path(definition: Definition, vm: VmLayout, previous: bool) -> str:
    console = definition.config.get("console") or {}
    if not console.get("enabled", True) or console.get("output", "file") != "file":
        how = f"goes to {console.get('output')}" if console.get("enabled", True) else "is off"
        raise FailedPrecondition(f"The console of {definition.name} is not kept: it {how}. Set config.console to {{enabled: true, output: file}}.")
    if previous:
        if console.get("path"):
            raise FailedPrecondition(
                f"The console of {definition.name} goes to {console['path']}, of which no earlier boot is kept. Leave out config.console.path."
            )
        return vm.console_previous
    return console.get("path") or vm.console_log


def _boot_id(vm: VmLayout) -> t.Optional[str]:
    """Of the running process, else of the last one."""
    process = processes.current(vm)
    if process:
        return process.boot_id
    last = events.last_exit(events.read(vm))
    return last.boot_id if last else None


def _wait(definition: Definition, vm: VmLayout, path: str, options: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
    from ..host.console_search import Searcher
    from .conditions import conditions
    from .waits import wait

    target = LiveVm(definition, vm)
    target.console_log = path
    with Searcher() as searcher:
        return wait(target, conditions([{"console": str(options["wait_for"])}], target, searcher), float(options["wait_timeout"]))


def read_from(path: str, start: int, max_bytes: int) -> tuple[str, int, int]:
    """Text from C(start) on, the offset after it, and how many bytes before the text were left out (trimmed, or beyond C(max_bytes); the end is what counts).

    NotFound when there is no console yet."""
    try:
        with files.os_errors(f"read the console {path}"), open(path, "rb") as stream:
            end = os.fstat(stream.fileno()).st_size
            begin = max(min(start, end), end - max_bytes)
            stream.seek(begin)
            raw = stream.read(end - begin)
    except FileNotFoundError:
        raise NotFound(f"There is no console at {path} yet: the VM was not booted. Start it with state: running.") from None
    kept = raw.lstrip(b"\0")
    dropped = begin - min(start, end) + len(raw) - len(kept)
    return kept.replace(b"\0", b"").decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n"), end, dropped
