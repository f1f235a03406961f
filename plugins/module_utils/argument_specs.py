# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Argument specs shared by the modules: plain data, as ansible-test reads it. The documentation of each is in plugins/doc_fragments."""

from __future__ import annotations

import typing as t

from .model.image_words import DISK_SOURCE_FORMATS, FILESYSTEMS
from .model.image_words import FORMATS as IMAGE_FORMATS
from .model.image_words import KINDS as IMAGE_KINDS
from .model.image_words import STATES as IMAGE_STATES
from .model.words import APPLY, BACKEND_CHOICES, DISK_FORMATS, DISRUPTIONS, KEEP, STATES_REPORTED, STATES_REQUESTED, SUPERVISORS, WORKLOADS

Spec = dict[str, t.Any]

HOST: Spec = {
    "state_dir": {"type": "path"},
    "run_dir": {"type": "path"},
}

LOCK: Spec = {"lock_timeout": {"type": "int", "default": 60}}

ENDPOINT: Spec = {"endpoint": {"type": "str"}}

# What says what a VM should be. Kept plain (dict, raw): the model alone validates, because nested specs would turn "absent" into null and stop at the
# first error of type.
VM: Spec = {
    "backend": {"type": "str", "choices": list(BACKEND_CHOICES)},
    "backend_version": {"type": "str"},
    "workload": {"type": "str", "choices": list(WORKLOADS)},
    "config": {"type": "dict"},
    "vcpus": {"type": "raw"},
    "max_vcpus": {"type": "raw"},
    "memory": {"type": "raw"},
    "kernel": {"type": "str"},
    "initrd": {"type": "str"},
    "kernel_args": {"type": "str"},
    "firmware": {"type": "str"},
    "disks": {"type": "list", "elements": "raw"},
    "networks": {"type": "list", "elements": "raw"},
    "labels": {"type": "dict"},
    "autostart": {"type": "bool"},
    "protected": {"type": "bool"},
    "restart_policy": {"type": "dict"},
    "security": {"type": "dict"},
    "metadata": {"type": "dict", "no_log": True},
    "cloud_init": {"type": "dict", "no_log": True},
    "supervisor": {"type": "str", "choices": list(SUPERVISORS)},
}

# How one run of a task goes about it.
TASK: Spec = {
    "state": {"type": "str", "default": "present", "choices": list(STATES_REQUESTED)},
    "allow_disruption": {"type": "str", "default": "none", "choices": list(DISRUPTIONS)},
    "apply": {"type": "str", "default": "now", "choices": list(APPLY)},
    "shutdown_timeout": {"type": "int"},
    "wait_for": {"type": "list", "elements": "raw"},
    "wait_timeout": {"type": "int", "default": 120},
    "keep": {"type": "list", "elements": "str", "choices": list(KEEP)},
}

VMS: Spec = {
    "vms": {"type": "raw", "required": True},
    "defaults": {"type": "dict"},
    "secrets": {"type": "dict", "no_log": True},
    "prune": {"type": "dict"},
    "on_error": {"type": "str", "default": "continue", "choices": ["continue", "stop"]},
    "parallel": {"type": "str", "default": "auto"},
    "start_batch": {"type": "int"},
    "overcommit": {"type": "bool", "default": False},
    "wait_timeout": {"type": "int", "default": 120},
    "claim": {"type": "dict", "options": {"fleet": {"type": "str", "default": "default"}, "run_id": {"type": "str", "required": True}}},
    "return": {"type": "str", "default": "compact", "choices": ["compact", "full"]},
}
# Options of VMS whose values are neither logged nor echoed: a thousand configurations would travel back and into every log.
LARGE = ("vms", "defaults")

INFO: Spec = {
    "names": {"type": "list", "elements": "str", "aliases": ["name"]},
    "labels": {"type": "dict"},
    "states": {"type": "list", "elements": "str", "choices": list(STATES_REPORTED[:-1])},
    "gather": {"type": "list", "elements": "str", "choices": ["memory", "counters", "drift", "events"], "default": []},
    "backend": {"type": "str", "choices": list(BACKEND_CHOICES)},
}

# Read whole by the model, which says all that is wrong at once; so types are plain here.
IMAGE: Spec = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "default": "present", "choices": list(IMAGE_STATES)},
    "kind": {"type": "str", "default": "disk", "choices": list(IMAGE_KINDS)},
    "url": {"type": "str"},
    "path": {"type": "str"},
    "src": {"type": "str"},
    "container": {"type": "str"},
    "package": {"type": "str"},
    "checksum": {"type": "str"},
    "format": {"type": "str", "choices": list(IMAGE_FORMATS)},
    "source_format": {"type": "str", "choices": list(DISK_SOURCE_FORMATS)},
    "unpack": {"type": "bool"},
    "max_size": {"type": "raw", "default": "64G"},
    "filesystem": {"type": "str", "choices": list(FILESYSTEMS)},
    "size": {"type": "raw"},
    "label": {"type": "str"},
    "init": {"type": "str"},
    "files": {"type": "list", "elements": "dict"},
    "hostname": {"type": "str"},
    # Public ones.
    "ssh_keys": {"type": "dict", "no_log": False},
    "proxy": {"type": "str"},
    "headers": {"type": "dict", "no_log": True},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "authfile": {"type": "path"},
    "retries": {"type": "int", "default": 4},
    "idle_timeout": {"type": "int", "default": 30},
    "timeout": {"type": "int", "default": 3600},
    "refresh": {"type": "bool", "default": False},
    "force": {"type": "bool", "default": False},
    "uploaded": {"type": "dict"},
}
# As LARGE: what may be long, or nobody else's to read.
IMAGE_LARGE = ("files", "init")

IMAGE_INFO: Spec = {
    "names": {"type": "list", "elements": "str", "aliases": ["name"]},
    "kinds": {"type": "list", "elements": "str", "choices": list(IMAGE_KINDS)},
    "verify": {"type": "bool", "default": False},
}

CONSOLE: Spec = {
    "name": {"type": "str", "required": True},
    "lines": {"type": "int"},
    "since": {"type": "dict"},
    "previous": {"type": "bool", "default": False},
    "wait_for": {"type": "str"},
    "wait_timeout": {"type": "int", "default": 120},
    "max_bytes": {"type": "int", "default": 262144},
}

DISK: Spec = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    "size": {"type": "raw"},
    "format": {"type": "str", "choices": list(DISK_FORMATS)},
    "preallocate": {"type": "bool"},
    "volume_group": {"type": "str"},
    "thin_pool": {"type": "str"},
    "filesystem": {"type": "raw"},
    "content": {"type": "path"},
    "source": {"type": "dict"},
    "force": {"type": "bool", "default": False},
    "apply": {"type": "str", "default": "now", "choices": list(APPLY)},
    "allow_disruption": {"type": "str", "default": "none", "choices": list(DISRUPTIONS)},
    "shutdown_timeout": {"type": "int"},
}

DISK_INFO: Spec = {"names": {"type": "list", "elements": "str", "aliases": ["name"]}}

# As for VMs, the model alone validates what is inside.
NETWORK: Spec = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    "kind": {"type": "str", "choices": ["bridge", "adopted", "uplink", "macvtap", "vxlan"]},
    "ipv4": {"type": "str"},
    "ipv6": {"type": "str"},
    "nat": {"type": "raw"},
    "dhcp": {"type": "bool"},
    "domain": {"type": "str"},
    "dns_servers": {"type": "list", "elements": "str"},
    "dns_names": {"type": "dict"},
    "range": {"type": "list", "elements": "str"},
    "mtu": {"type": "int"},
    "isolate": {"type": "bool"},
    "anti_spoofing": {"type": "bool"},
    "egress": {"type": "dict"},
    "forward": {"type": "list", "elements": "dict"},
    "host_ports": {"type": "list", "elements": "dict"},
    "interface": {"type": "str"},
    "vlan": {"type": "int"},
    "mode": {"type": "str", "choices": ["bridge", "vepa", "private", "passthru"]},
    "vxlan": {"type": "dict"},
    "force": {"type": "bool", "default": False},
    "allow_disruption": {"type": "str", "default": "none", "choices": ["none", "restart"]},
}

NETWORK_INFO: Spec = {"names": {"type": "list", "elements": "str", "aliases": ["name"]}}

FLEET: Spec = {
    "fleet": {"type": "str", "default": "default"},
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    "claims": {"type": "dict"},
    "complete": {"type": "bool", "default": True},
    "generation": {"type": "int"},
    "run_id": {"type": "str"},
    "expected_generation": {"type": "int"},
    "expected_run_id": {"type": "str"},
    "drained": {"type": "bool"},
    "drain_reason": {"type": "str"},
    "moved": {"type": "dict"},
}
