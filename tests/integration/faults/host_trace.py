# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a playground's VMs is on the host, so that before and after can be compared."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import typing as t

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground, processes_about
from ansible_collections.unkey.vmcp.tests.waiting import until


def vmms(ground: Playground, name: str) -> list[int]:
    """The VMMs of a VM: processes, shells on their way to become one excepted."""
    found = processes_about(str(ground.top)).items()
    return [pid for pid, words in found if not words.startswith("/bin/sh ") and (_names(words, name) or (_is_unnamed(words) and _prints_for(pid, name)))]


def _names(words: str, name: str) -> bool:
    return f" --id {name} " in words or f" -name guest={name}," in words


def _is_unnamed(words: str) -> bool:
    """A Cloud Hypervisor, whose command line does not say whose it is."""
    return " --api-socket " in words


def _prints_for(pid: int, name: str) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return os.readlink(f"/proc/{pid}/fd/1").endswith(f"/{name}/console.log")
    return False


def at_rest(ground: Playground) -> dict[str, t.Any]:
    """C(trace) where no VM is meant to run, once what ends by itself, as a supervisor does after its VMM, has ended."""
    until(lambda: not _supervised(ground), lambda: f"nothing runs any more: {_supervised(ground)}")
    return trace(ground)


def trace(ground: Playground) -> dict[str, t.Any]:
    """Files, mounts, taps, processes and allocations, as they are now."""
    allocations = pathlib.Path(ground.state, "allocations.json")
    return {
        # Not the locks, which are never removed.
        "files": sorted(path for directory in (ground.state, ground.run_dir) for path in _below(directory)),
        "mounts": [line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines() if f"{ground.top}/" in line],
        "taps": _taps_of(ground),
        "processes": _supervised(ground),
        "allocated": json.loads(allocations.read_text())["vms"] if allocations.exists() else {},
    }


def _below(directory: str) -> t.Iterator[str]:
    """Everything. What goes away meanwhile is no error to os.walk."""
    for top, directories, files in os.walk(directory):
        yield from (os.path.join(top, name) for name in (*directories, *files))


def _supervised(ground: Playground) -> dict[int, str]:
    # A network's dnsmasq goes on.
    # A supervisor's nap is another process each time. What bounds the logs of all VMs ends some time after the last of them, and with the last removal at
    # once: tests/integration/host holds it to that.
    ours = processes_about(str(ground.top)).items()
    return {
        pid: words for pid, words in ours if "zygote" not in words and not words.startswith("sleep ") and "/trim-logs" not in words and "dnsmasq" not in words
    }


def _taps_of(ground: Playground) -> list[str]:
    recorded = pathlib.Path(ground.run_dir).glob("*/taps")
    return [tap for file in recorded for tap in file.read_text().split() if os.path.exists(f"/sys/class/net/{tap}")]


def definition(ground: Playground, name: str) -> t.Any:
    """vm.json; None when there is none. A torn one fails the test here."""
    file = ground.vm_file(name, "vm.json")
    return json.loads(file.read_text()) if file.exists() else None
