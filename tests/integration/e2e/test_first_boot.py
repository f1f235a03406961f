# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""First-boot data on each backend: the seed disk is there, changes only where that is allowed, and nothing shows what is in it."""

from __future__ import annotations

import io
import json
import os
import pathlib
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm

SECRET = "correct-horse-battery-staple"


def read_seed(path: pathlib.Path) -> dict[str, str]:
    pycdlib = pytest.importorskip("pycdlib")
    iso = pycdlib.PyCdlib()
    iso.open(str(path))
    files = {}
    for name in ("user-data", "meta-data"):
        found = io.BytesIO()
        iso.get_file_from_iso_fp(found, rr_path=f"/{name}")
        files[name] = found.getvalue().decode()
    iso.close()
    return files


def test_a_seed_disk_on_every_backend(ground: Playground, backend: Vmm, guest: t.Callable[..., str], disk: str) -> None:
    options = {"backend": backend.backend, "memory": "128M", "kernel": guest("halt"), "shutdown_timeout": 0, **backend.options, "name": "web"}
    options |= {"state": "running", "disks": [disk]}
    first: Tree = {"user_data": {"password": SECRET}, "hostname": "web.example"}
    other: Tree = {"user_data": {"password": f"{SECRET}-2"}, "hostname": "web.example"}
    results = ground.play(
        [
            task("check", check=True, **options, cloud_init=first),
            task("make", **options, cloud_init=first),
            task("again", **options, cloud_init=first),
            task("left out", **options),
            task("other data", **options, cloud_init=other),
            task("other data, check", check=True, **options, cloud_init=other, allow_disruption="replace_data"),
            task("other data, allowed", **options, cloud_init=other, allow_disruption="replace_data"),
            task("allowed again", **options, cloud_init=other),
            task("look", "vmcp_vm_info"),
        ]
    )
    assert results.ok("check")["changed"] and not results["check"].touched and results["check"]["actions"] == results.ok("make")["actions"]
    assert not results.ok("again")["changed"] and not results.ok("left out")["changed"]
    assert "cloud_init" in results.refused("other data", "failed_precondition")["msg"]
    allowed = results.ok("other data, allowed")
    assert allowed["disruption"] == "replace_data" == results.ok("other data, check")["disruption"]
    assert allowed["vm"]["pid"] != results["make"]["vm"]["pid"] and not results.ok("allowed again")["changed"]
    seed = pathlib.Path(ground.state, "vms/web/data/seed.iso")
    files = read_seed(seed)
    assert f"{SECRET}-2" in files["user-data"] and json.loads(files["meta-data"])["local-hostname"] == "web.example"
    assert os.stat(seed).st_uid == allowed["vm"]["uid"] and os.stat(seed).st_mode & 0o777 == 0o400
    assert SECRET not in results.output and SECRET not in str(results.all), "shown to nobody"
    kept = [path for path in pathlib.Path(ground.state).glob("vms/web/*") if path.is_file() and SECRET in path.read_text(errors="replace")]
    assert [path.name for path in kept] == ["secrets.json"]


def test_the_metadata_service_instead(ground: Playground, backend: Vmm, guest: t.Callable[..., str]) -> None:
    options = {"backend": backend.backend, "memory": "128M", "kernel": guest("halt"), **backend.options, "name": "web", "state": "present"}
    results = ground.play([task("mmds", **options, cloud_init={"hostname": "web", "datasource": "mmds"})])
    if backend.backend == "firecracker":
        assert "over a network interface" in results.refused("mmds", "invalid_argument")["msg"]
    else:
        assert "it has no metadata service" in results.refused("mmds", "invalid_argument")["msg"]
