# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Firecracker's metadata service is told, and what is a disk instead."""

from __future__ import annotations

import dataclasses

from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.plugins.module_utils.model.resolving import resolved
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.launching import told_metadata

SECRETS = {"metadata": {"token": "x"}, "cloud_init": {"hostname": "db", "user_data": {"packages": []}}}
VM = Definition("web", "firecracker", "1.16.1", "/fc", {"storage": [{"id": "cloud-init", "path": "/a"}]}, cloud_init_digest="0123456789abcdef")


def test_through_the_metadata_service() -> None:
    vm = dataclasses.replace(VM, generated={"cloud_init": "mmds"})
    told = told_metadata(vm, SECRETS)
    assert told["token"] == "x" and told["latest"]["meta-data"] == {"instance-id": "web-0123456789ab", "local-hostname": "db"}
    assert told["latest"]["user-data"].startswith("#cloud-config\n")
    assert resolved(vm, "/data") == VM.config


def test_as_a_disk_with_an_id_that_is_free() -> None:
    vm = dataclasses.replace(VM, generated={"cloud_init": "nocloud"})
    assert told_metadata(vm, SECRETS) == {"token": "x"}
    assert resolved(vm, "/data")["storage"][-1] == {"id": "cloud-init-2", "path": "/data/seed.iso", "read_only": True, "format": "raw"}
    assert told_metadata(VM, {}) is None
