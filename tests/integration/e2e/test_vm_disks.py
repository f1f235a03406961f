# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Storage entries of VMs that are ours to make, on each backend: clones of images, empty disks, disks of their own."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host.images import Image, ImageStore, digest_file
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground, Result, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm, use

MIB = 1 << 20


def publish(ground: Playground, name: str, fill: bytes, size: int = 8 * MIB) -> str:
    """An image of that content, as vmcp_image keeps it. Its digest."""
    store = ImageStore(Layout(ground.state, ground.run_dir))
    temporary = pathlib.Path(store.make_work(name), "content")
    with open(temporary, "wb") as stream:
        stream.write(fill)
        stream.truncate(size)
    digest = digest_file(str(temporary))
    store.publish(Image(name, "disk", digest, "raw", size, ""), str(temporary))
    return digest


def disks_of(ground: Playground, name: str) -> Tree:
    return t.cast(Tree, json.loads(ground.vm_file(name, "vm.json").read_text())["generated"]["disks"])


def vm_options(found: Vmm, kernel: str, **more: t.Any) -> Tree:
    return {"backend": found.backend, "memory": "128M", "kernel": kernel, "shutdown_timeout": 0, **found.options, **more}


def kept_bytes(path: str, format_: str, count: int) -> bytes:
    """The first bytes as the guest sees them."""
    words = ["qemu-io", "-r", "-U", "-f", format_, "-c", f"read -v 0 {count}", path]
    if format_ == "raw":
        return pathlib.Path(path).read_bytes()[:count]
    return subprocess.run(words, check=True, capture_output=True).stdout


def test_a_clone_comes_grows_and_goes_with_its_vm(ground: Playground, backend: Vmm, guest: t.Callable[..., str]) -> None:
    publish(ground, "base", b"one")
    root = {"image": "base", "is_root_device": True}
    config = {"storage": [root, {"id": "scratch", "size": "16M", "filesystem": "ext4"}]}
    options = vm_options(backend, guest("halt"), config=config, name="web", state="running")
    larger = {"storage": [{**root, "size": "32M"}, {"id": "scratch", "size": "24M", "filesystem": "ext4"}]}
    results = ground.play(
        [
            task("check", check=True, **options),
            task("make", **options),
            task("again", **options),
            task("grow, check", check=True, **{**options, "config": larger}),
            task("grow", **{**options, "config": larger}),
            task("grown already", **{**options, "config": larger}),
            task("shrink", **options | {"config": {"storage": [{**root, "size": "16M"}, {"id": "scratch", "size": "24M", "filesystem": "ext4"}]}}),
        ]
    )
    checked, made = results.ok("check"), results.ok("make")
    assert checked["changed"] and checked["actions"] == made["actions"] and checked["diff"] == made["diff"] and not checked.touched
    assert made["vm"]["state"] == "running" and not results.ok("again")["changed"]
    grown = results.ok("grow")
    assert grown["actions"] == ["update", "resize"] == results.ok("grow, check")["actions"] and grown["disruption"] == "none"
    assert grown["vm"]["pid"] == made["vm"]["pid"], "grown without a restart"
    assert not results.ok("grown already")["changed"]
    assert "is not shrunk" in results.refused("shrink", "invalid_argument")["msg"]
    disks = disks_of(ground, "web")
    for name, size in (("base", 32), ("scratch", 24)):
        path, format_ = f"{ground.state}/vms/web/data/{disks[name]['file']}", disks[name]["format"]
        said = json.loads(subprocess.run(["qemu-img", "info", "-U", "-f", format_, "--output=json", path], check=True, capture_output=True).stdout)
        assert said["virtual-size"] == size * MIB, (name, said)
        assert os.stat(path).st_uid == made["vm"]["uid"]
    assert disks["base"]["method"] in ("reflink", "overlay", "copy") and disks["base"]["saved_bytes"] > 7 * MIB


def test_another_image_replaces_data_only_where_that_is_allowed(ground: Playground, backend: Vmm, guest: t.Callable[..., str]) -> None:
    publish(ground, "base", b"one")
    publish(ground, "other", b"other")
    options = vm_options(backend, guest("halt"), name="web", state="running")

    def of(image: str) -> Tree:
        return {"storage": [{"image": image, "is_root_device": True}]}

    results = ground.play(
        [
            task("make", **options, config=of("base")),
            task("another image", **options, config=of("other")),
            task("only a restart", **options, config=of("other"), allow_disruption="restart"),
            task("check", check=True, **options, config=of("other"), allow_disruption="replace_data"),
            task("replace", **options, config=of("other"), allow_disruption="replace_data"),
            task("again", **options, config=of("other"), allow_disruption="replace_data"),
            task("no image", **options, config=of("nobody"), allow_disruption="replace_data"),
            task("no image, check", check=True, **options, config=of("nobody"), allow_disruption="replace_data"),
        ]
    )
    first = results.ok("make")
    for name in ("another image", "only a restart"):
        refused = results.refused(name, "failed_precondition")
        assert "replac" in refused["msg"] and [found["field"] for found in refused["violations"]] == ["config.storage[base].image"]
    replaced = results.ok("replace")
    assert replaced["disruption"] == "replace_data" == results.ok("check")["disruption"] and replaced["vm"]["pid"] != first["vm"]["pid"]
    assert not results.ok("again")["changed"]
    assert "vmcp_image" in results.refused("no image", "failed_precondition")["msg"]
    assert results.ok("no image, check")["would_need"][0]["field"] == "config.storage[0].image"
    data = pathlib.Path(ground.state, "vms/web/data")
    file = disks_of(ground, "web")["base"]["file"]
    assert [name for name in os.listdir(data) if name.startswith("base-")] == [file], "the former clone is gone"
    assert b"other" in kept_bytes(f"{data}/{file}", disks_of(ground, "web")["base"]["format"], 512)

    publish(ground, "other", b"newer")
    results = ground.play(
        [
            task("the image has changed", **options, config=of("other"), labels={"a": "b"}),
            task("allowed", **options, config=of("other"), allow_disruption="replace_data"),
        ]
    )
    assert results.ok("the image has changed")["actions"] == ["update"], "a new image alone touches nothing"
    assert "has changed since" in str(results["the image has changed"].get("warnings"))
    assert results.ok("allowed")["disruption"] == "replace_data"


def test_a_disk_is_written_to_by_one_vm_at_a_time(ground: Playground, backend: Vmm, guest: t.Callable[..., str]) -> None:
    options = vm_options(backend, guest("halt"), state="running", config={"storage": [{"disk": "data"}]})
    file, link = f"{ground.state}/disks/data/disk.raw", ground.top / "link"
    link.symlink_to(file)
    results = ground.play(
        [
            task("no disk", name="web", **options),
            task("disk", "vmcp_disk", name="data", size="8M", filesystem="ext4"),
            task("first", name="web", **options),
            task("second", name="db", **options),
            task("by its file", name="db", **options | {"config": {"storage": [{"path": file}]}}),
            task("by a link to it", name="db", **options | {"config": {"storage": [{"path": str(link)}]}}),
            task("two in one task", "vmcp_vms", defaults=options, vms=[{"name": "a"}, {"name": "b"}]),
            task("grow, check", "vmcp_disk", name="data", size="16M", check=True),
            task("grow", "vmcp_disk", name="data", size="16M"),
            task("again", "vmcp_disk", name="data", size="16M"),
            task("shrink", "vmcp_disk", name="data", size="8M", force=True),
            task("remove", "vmcp_disk", name="data", state="absent"),
            task("look", "vmcp_disk_info"),
            task("remove the VM", name="web", state="absent"),
            task("look again", "vmcp_disk_info"),
            task("remove the disk", "vmcp_disk", name="data", state="absent"),
        ]
    )
    assert "no disk 'data'" in results.refused("no disk", "failed_precondition")["msg"]
    assert results.ok("first")["vm"]["state"] == "running"
    assert "is used by VM web" in results.refused("second", "invalid_argument")["msg"]
    for name, path in (("by its file", file), ("by a link to it", str(link))):
        assert f"{path}, which is disk data, is used by VM web" in results.refused(name, "invalid_argument")["msg"]
    assert results["two in one task"].failed
    grown: Result = results.ok("grow")
    assert grown["actions"] == ["grow_live"] == results.ok("grow, check")["actions"] and not results.ok("again")["changed"]
    assert grown["disk"]["size_bytes"] == 16 * MIB == results.ok("look")["disks"][0]["size_bytes"]
    assert "VM web runs with disk data" in results.refused("shrink", "failed_precondition")["msg"]
    assert "used by VM web (which runs)" in results.refused("remove", "failed_precondition")["msg"]
    assert results.ok("look")["disks"][0]["users"] == [{"vm": "web", "id": "data", "read_only": False, "running": True}]
    assert results.ok("look again")["disks"][0]["users"] == [], "it outlives the VM"
    assert results.ok("remove the disk")["changed"]


def test_a_file_of_the_users_is_written_to_by_one_vm_at_a_time(ground: Playground, backend: Vmm, guest: t.Callable[..., str]) -> None:
    file, link, hard = ground.top / "own.raw", ground.top / "link", ground.top / "hard"
    file.write_bytes(bytes(MIB))
    link.symlink_to(file)
    os.link(file, hard)
    options = vm_options(backend, guest("halt"), state="running")

    def of(path: t.Any, read_only: bool = False) -> Tree:
        return {"storage": [{"id": "own", "path": str(path), "read_only": read_only}]}

    results = ground.play(
        [
            task("first", name="web", **options, config=of(file)),
            task("first again", name="web", **options, config=of(file)),
            *(task(f"second by {path.name}", name="db", **options, config=of(path)) for path in (file, link, hard)),
            task("second, check", name="db", check=True, **options, config=of(link)),
            task("second reads", name="db", **options, config=of(file, read_only=True)),
            task("two in one task", "vmcp_vms", defaults={**options, "state": "present", "config": of(ground.top / "new")}, vms=[{"name": "a"}, {"name": "b"}]),
            task("another", name="db", **options),
            task("which gets it", name="db", **options, config=of(file)),
            task("first lets go", name="web", **options, config={"storage": []}, allow_disruption="restart"),
            task("second has it", name="db", **options, config=of(link), allow_disruption="restart"),
            task("second gives it away", name="db", state="absent"),
            task("two that read", "vmcp_vms", defaults={**options, "config": of(file, read_only=True)}, vms=[{"name": "c"}, {"name": "d"}]),
        ]
    )
    results.ok("first")
    assert not results.ok("first again")["changed"]
    for name, path in (*((f"second by {path.name}", path) for path in (file, link, hard)), ("second, check", link), ("which gets it", file)):
        (violation,) = results.refused(name, "invalid_argument")["violations"]
        shown = str(path) if path == file else f"{path}, as {file},"
        assert violation["field"] == "config.storage[0].path" and f"{shown} is used by VM web" in violation["message"], name
    assert "is used by VM web" in results.refused("second reads", "invalid_argument")["msg"]
    assert "is used by VM a" in str(results["two in one task"]) and results["two in one task"].failed
    for name in ("another", "first lets go", "second has it", "two that read"):
        assert results.ok(name)["changed"], name


@pytest.mark.parametrize("kind", ["qemu", "cloudhypervisor"])
def test_a_disk_that_stands_on_an_image(ground: Playground, kind: str, guest: t.Callable[..., str]) -> None:
    """An overlay is booted from. QEMU makes it larger at once; Cloud Hypervisor cannot, so its VM is restarted where that is allowed."""
    found = use(kind, ground)
    publish(ground, "base", b"one")
    options = vm_options(found, guest("halt"), name="web", state="running", config={"storage": [{"disk": "data"}]})
    disk: Tree = {"name": "data", "source": {"image": "base"}, "format": "qcow2"}
    restart: Tree = {**disk, "size": "16M", "allow_disruption": "restart", "shutdown_timeout": 0}
    results = ground.play(
        [
            task("disk", "vmcp_disk", **disk),
            task("VM", **options),
            task("VM again", **options),
            task("grow, check", "vmcp_disk", **disk, size="16M", check=True),
            task("grow", "vmcp_disk", **disk, size="16M"),
            task("restart, check", "vmcp_disk", **restart, check=True),
            task("restart", "vmcp_disk", **restart),
            task("restarted", "vmcp_disk", **restart),
            task("look", "vmcp_vm_info"),
            task("VM after that", **options),
            task("shut down", name="web", state="shutdown", shutdown_timeout=0),
            task("grow while it is down", "vmcp_disk", **disk, size="32M"),
            task("up again", **options),
        ]
    )
    assert results.ok("disk")["disk"]["method"] == "overlay" and len(results["disk"]["disk"]["backing_chain"]) == 2
    assert results.ok("VM")["vm"]["state"] == "running" == results.ok("up again")["vm"]["state"] and not results.ok("VM again")["changed"]
    if kind == "qemu":
        assert results.ok("grow")["actions"] == ["grow_live"] == results.ok("grow, check")["actions"]
    else:
        for name in ("grow, check", "grow"):
            refused = results.refused(name, "failed_precondition")
            assert "cannot be told of a new size" in refused["msg"] and "Set allow_disruption: restart" in refused["msg"] and refused["disruption"] == "restart"
        foretold, done = results.ok("restart, check"), results.ok("restart")
        assert foretold["actions"] == done["actions"] == ["kill", "grow", "start"] and foretold["diff"] == done["diff"] and not foretold.touched
        assert done["restarts"] == ["web"] == foretold["restarts"] and done["disruption"] == "restart" and done["diff"]["after"]["VM web"] == "restarted"
        assert results.ok("look")["vms"][0]["pid"] not in (None, results["VM"]["vm"]["pid"]), "another process"
    assert not results.ok("restarted")["changed"] and results.ok("look")["vms"][0]["state"] == "running"
    assert not results.ok("VM after that")["changed"]
    assert results.ok("grow while it is down")["actions"] == ["grow"]
    file = results.ok("restarted")["disk"]["path"]
    said = json.loads(subprocess.run(["qemu-img", "info", "-U", "--output=json", file], check=True, capture_output=True).stdout)
    assert said["virtual-size"] == 32 * MIB

    # As a task leaves it that is killed between the end of the VM and its start.
    ground.play([task("down", name="web", state="shutdown", shutdown_timeout=0)]).ok("down")
    mark = pathlib.Path(Layout(ground.state, ground.run_dir).vm("web").restarting)
    mark.touch()
    results = ground.play([task("restart of another", "vmcp_disk", **{**restart, "size": "32M"})])
    assert not results.ok("restart of another")["changed"], "that is not for this module to finish"
    mark.write_text("disk data")
    results = ground.play([task("again", "vmcp_disk", **{**restart, "size": "48M"}), task("look", "vmcp_vm_info")])
    assert results.ok("again")["actions"] == ["grow", "start"] and results.ok("look")["vms"][0]["state"] == "running"


def test_many_clones_in_one_task(ground: Playground, qemu: Vmm, guest: t.Callable[..., str]) -> None:
    publish(ground, "base", b"one", 64 * MIB)
    defaults = vm_options(qemu, guest("halt"), state="present", config={"storage": [{"image": "base", "is_root_device": True}]})
    many = {"defaults": defaults, "vms": [{"name": "fn-{index}", "count": 30}], "secrets": {"fn-{index}": {"cloud_init": {"hostname": "all"}}}}
    results = ground.play(
        [
            task("check", "vmcp_vms", check=True, **many),
            task("make", "vmcp_vms", **many),
            task("again", "vmcp_vms", **many),
            task("remove the image", "vmcp_image", name="base", state="absent"),
            task("remove", "vmcp_vms", vms=[{"name": f"fn-{number}", "state": "absent"} for number in range(30)]),
        ]
    )
    assert results.ok("check")["changed"] and not results["check"].touched
    results.ok("make")
    assert not results.ok("again")["changed"]
    assert "fn-0" in results.refused("remove the image", "failed_precondition")["msg"], "overlays stand on it"
    results.ok("remove")
    assert not list(pathlib.Path(ground.state).glob("vms/*/data/base-*"))
