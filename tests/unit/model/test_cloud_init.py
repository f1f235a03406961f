# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""First-boot data: what is wrong is said without showing a value, and the documents are those that cloud-init reads."""

from __future__ import annotations

import io
import json
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host.seed import seed_bytes
from ansible_collections.unkey.vmcp.plugins.module_utils.model.cloud_init import documents, for_mmds
from ansible_collections.unkey.vmcp.plugins.module_utils.model.task import validate_request
from ansible_collections.unkey.vmcp.tests.trees import VALUES

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPs3cr3t me@example"


def said(cloud_init: t.Any) -> dict[str, str]:
    _request, violations = validate_request({"name": "web", "cloud_init": cloud_init})
    return {violation.field: violation.message for violation in violations}


@pytest.mark.parametrize(
    ("given", "field", "text"),
    [
        ("text", "cloud_init", "must be a dictionary"),
        ({}, "cloud_init", "gives no data"),
        ({"userdata": "s3cret"}, "cloud_init", "has a key that is none of"),
        ({"user_data": ["s3cret"]}, "cloud_init.user_data", "must be text, or a dictionary"),
        ({"user_data": "s3cret" * 200000}, "cloud_init.user_data", "at most 1024 KiB"),
        ({"ssh_keys": KEY}, "cloud_init.ssh_keys", "must be a list of public keys"),
        ({"ssh_keys": ["s3cret"]}, "cloud_init.ssh_keys", "must be a list of public keys"),
        ({"hostname": "s3cret_"}, "cloud_init.hostname", "must be a host name"),
        ({"meta_data": "s3cret: 1", "hostname": "web"}, "cloud_init.hostname", "goes into the meta data"),
        ({"hostname": "web", "datasource": "s3cret"}, "cloud_init.datasource", "must be one of nocloud, mmds"),
    ],
)
def test_what_is_wrong_is_said_and_not_shown(given: t.Any, field: str, text: str) -> None:
    found = said(given)
    assert text in found[field] and "s3cret" not in str(found)


@pytest.mark.parametrize("key", ["user_data", "meta_data", "network_config", "ssh_keys", "hostname", "datasource"])
def test_no_value_ends_in_a_traceback(key: str) -> None:
    for value in VALUES:
        said({key: value})


def test_documents() -> None:
    given = {"user_data": {"packages": ["curl"]}, "ssh_keys": [KEY], "hostname": "db.example", "network_config": "version: 2\n", "meta_data": {"zone": "a"}}
    files = documents(given, "web", "0123456789abcdef")
    assert files["user-data"].startswith("#cloud-config\n") and json.loads(files["user-data"].partition("\n")[2]) == {"packages": ["curl"]}
    assert json.loads(files["meta-data"]) == {"instance-id": "web-0123456789ab", "local-hostname": "db.example", "public-keys": [KEY], "zone": "a"}
    assert files["network-config"] == "version: 2\n"
    assert documents({"user_data": "#!/bin/sh\n", "meta_data": "instance-id: x\n"}, "web", "0")["meta-data"] == "instance-id: x\n"
    assert set(documents({"hostname": "a"}, "web", "0")) == {"user-data", "meta-data"}
    assert for_mmds(given, "web", "0123456789abcdef")["latest"]["meta-data"]["local-hostname"] == "db.example"


def test_the_seed_disk_is_what_cloud_init_looks_for() -> None:
    pycdlib = pytest.importorskip("pycdlib")
    files = {"user-data": "#cloud-config\n" + "x" * 5000, "meta-data": "instance-id: é\n", "network-config": "{}"}
    body = seed_bytes(files)
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BytesIO(body))
    assert iso.pvd.volume_identifier.rstrip() == b"cidata"
    for name, text in files.items():
        for way in ("rr_path", "joliet_path"):
            found = io.BytesIO()
            iso.get_file_from_iso_fp(found, **{way: f"/{name}"})
            assert found.getvalue().decode() == text
