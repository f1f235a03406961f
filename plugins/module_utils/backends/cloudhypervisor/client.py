# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cloud Hypervisor's API: one function per call, no decisions.

A refusal becomes FailedPrecondition with the VMM's words: an array of strings, outermost cause first, since v47; plain text before.
"""

from __future__ import annotations

import typing as t

from ...errors import FailedPrecondition, Internal
from ..quoting import quoted
from ..unix_http import Connection, Reply
from ..vmm_socket import parse_json

BASE = "/api/v1/"
# What they say when there is no VM; 404 since v53, 500 before.
NO_VM = ("VM is not created", "VM config is missing", "The VM was not created", "Cannot query info: VM is not created")

# Call: method and what we were about to do, for messages.
_CALLS: dict[str, tuple[str, str]] = {
    "vmm.ping": ("GET", "answer a ping"),
    "vm.info": ("GET", "describe its VM"),
    "vm.counters": ("GET", "give its counters"),
    "vm.create": ("PUT", "take the VM's configuration"),
    "vm.boot": ("PUT", "boot the VM"),
    "vm.pause": ("PUT", "pause the VM"),
    "vm.resume": ("PUT", "resume the VM"),
    "vm.power-button": ("PUT", "press the VM's power button"),
    "vm.shutdown": ("PUT", "shut the VM down"),
    "vm.delete": ("PUT", "delete the VM"),
    "vm.resize-disk": ("PUT", "resize a disk of the VM"),
}


def ping(connection: Connection) -> dict[str, t.Any]:
    """C(version), C(build_version), C(pid), C(features)."""
    return _mapping(connection, "vmm.ping")


def info(connection: Connection) -> dict[str, t.Any]:
    """C(config), C(state), C(memory_actual_size), C(device_tree)."""
    return _mapping(connection, "vm.info")


def counters(connection: Connection) -> dict[str, t.Any]:
    """Device id to counters; refused unless the VM is booted."""
    return _mapping(connection, "vm.counters")


def create(connection: Connection, document: t.Mapping[str, t.Any]) -> None:
    _call(connection, "vm.create", document)


def boot(connection: Connection) -> None:
    _call(connection, "vm.boot")


def pause(connection: Connection) -> None:
    _call(connection, "vm.pause")


def resume(connection: Connection) -> None:
    _call(connection, "vm.resume")


def power_button(connection: Connection) -> None:
    _call(connection, "vm.power-button")


def shutdown(connection: Connection) -> None:
    _call(connection, "vm.shutdown")


def delete(connection: Connection) -> None:
    _call(connection, "vm.delete")


def resize_disk(connection: Connection, disk: str, size_bytes: int) -> None:
    """The VMM extends the file, and tells the guest."""
    _call(connection, "vm.resize-disk", {"id": disk, "desired_size": size_bytes})


def refusal_words(status: int, body: str) -> str:
    """The VMM's own words, readable: C("The VM could not boot: VM config is missing"). C(body) may be no JSON, or nothing."""
    try:
        value = parse_json(body)
    except ValueError:
        value = body
    if isinstance(value, dict) and isinstance(value.get("error"), str):  # the HTTP library's own errors
        value = value["error"]
    if isinstance(value, list):
        # "Error from API" heads every error and says nothing.
        causes = [quoted(cause).rstrip(".") for cause in value[:20]]
        text = ": ".join([cause for cause in causes if cause and cause != "Error from API"] or causes)
    else:
        text = quoted(value).rstrip(".")
    return quoted(text) or f"HTTP status {status} without a word"


def is_no_vm(status: int, body: str) -> bool:
    """Whether a refusal means that the VMM has no VM."""
    return status in (404, 500) and any(words.lower() in body.lower() for words in NO_VM)


def _call(connection: Connection, call: str, payload: t.Any = None) -> Reply:
    method, purpose = _CALLS[call]
    reply = connection.request(method, BASE + call, payload)
    if not reply.ok:
        raise FailedPrecondition(f"Cloud Hypervisor would not {purpose}: {refusal_words(reply.status, reply.text)}.", details={"vmm_status": reply.status})
    return reply


def _mapping(connection: Connection, call: str) -> dict[str, t.Any]:
    reply = _call(connection, call)
    if not isinstance(reply.value, dict):
        raise Internal(f"Cloud Hypervisor behind {connection.socket_path} answered {call} with {reply.text[:80]!r}, which is no object.")
    return reply.value
