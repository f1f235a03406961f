# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import threading
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition, Internal, InvalidArgument
from ansible_collections.unkey.vmcp.plugins.module_utils.host import allocations
from ansible_collections.unkey.vmcp.plugins.module_utils.host.host_json import CONSOLE_MAX_BYTES, UID_RANGE, HostDefaults, read_host_json
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.store import Store
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.tests.removals import remove_vm


@pytest.fixture
def layout(tmp_path: pathlib.Path) -> Layout:
    return Layout(str(tmp_path / "state"), str(tmp_path / "run"))


def allocate(layout: Layout, name: str, nics: list[str] | None = None, uid_range: tuple[int, int] | None = UID_RANGE) -> allocations.Allocation:
    return allocations.allocate(layout, name, nics or [], uid_range=uid_range, lock_timeout_s=200)


def test_values_are_chosen_once(layout: Layout) -> None:
    first = allocate(layout, "web", ["eth0", "eth1"])
    assert allocate(layout, "web", ["eth0", "eth1"]) == first
    assert first.uid == UID_RANGE[0]
    assert first.cid >= 3
    for mac in first.macs.values():
        assert re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac)
        assert int(mac[:2], 16) & 3 == 2, "locally administered unicast"
    assert all(re.fullmatch(r"vm[0-9a-f]{1,13}", tap) for tap in first.taps.values())
    assert len({*first.macs.values(), *first.taps.values()}) == 4


def test_no_two_vms_share_anything(layout: Layout) -> None:
    given = [allocate(layout, f"vm-{n}", ["eth0"]) for n in range(50)]
    for values in ([a.uid for a in given], [a.cid for a in given], [a.macs["eth0"] for a in given], [a.taps["eth0"] for a in given]):
        assert len(set(values)) == 50


def test_two_at_once_share_nothing(layout: Layout) -> None:
    given: list[allocations.Allocation] = []
    threads = [threading.Thread(target=lambda n=n: given.append(allocate(layout, f"vm-{n}", ["eth0"]))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=100)
    assert len({a.uid for a in given}) == 8


def test_a_nic_that_is_gone_is_given_back_and_comes_again_the_same(layout: Layout) -> None:
    first = allocate(layout, "web", ["eth0", "eth1"])
    assert list(allocate(layout, "web", ["eth0"]).macs) == ["eth0"]
    assert "eth1" not in json.loads(pathlib.Path(layout.allocations).read_text())["vms"]["web"]["nics"]
    assert allocate(layout, "web", ["eth0", "eth1"]) == first


def test_what_was_given_back_rests(layout: Layout) -> None:
    first = allocate(layout, "web")
    assert allocations.release(layout, "web", lock_timeout_s=200) is True
    assert allocations.release(layout, "web", lock_timeout_s=200) is False
    assert allocate(layout, "other").uid == first.uid + 1


def test_a_uid_is_not_given_back_while_data_of_it_is_kept(layout: Layout) -> None:
    """Another VM that was given it could read what is kept."""
    small = (UID_RANGE[0], UID_RANGE[0])
    first = allocate(layout, "web", ["eth0"], uid_range=small)
    data = pathlib.Path(layout.vm("web").data)
    data.mkdir(parents=True)
    (data / "disk").write_text("secret")

    def remove(keep: bool) -> None:
        remove_vm(layout, "web", keep_data=keep, give_back=lambda names: allocations.release(layout, "web", lock_timeout_s=200))

    remove(keep=True)
    with pytest.raises(FailedPrecondition, match="belong to VMs"):
        allocate(layout, "other", uid_range=small)
    assert json.loads(pathlib.Path(layout.allocations).read_text())["vms"] == {"web": {"uid": first.uid}}
    assert allocate(layout, "web", uid_range=small).uid == first.uid, "a VM of that name goes on with it"
    remove(keep=True)
    remove(keep=True)
    remove(keep=False)
    assert json.loads(pathlib.Path(layout.allocations).read_text())["vms"] == {}
    assert allocate(layout, "other", uid_range=small).uid == first.uid


def test_a_range_that_is_used_up_takes_back_from_vms_that_are_gone(layout: Layout) -> None:
    small = (UID_RANGE[0], UID_RANGE[0] + 1)
    for name in ("a", "b"):
        allocate(layout, name, uid_range=small)
        os.makedirs(layout.vm(name).dir)
    with pytest.raises(FailedPrecondition, match="Widen uid_range"):
        allocate(layout, "c", uid_range=small)
    os.rmdir(layout.vm("a").dir)
    assert allocate(layout, "c", uid_range=small).uid == small[0]


def test_a_uid_of_somebody_is_not_given(layout: Layout) -> None:
    with pytest.raises(FailedPrecondition, match="belong to VMs"):
        allocate(layout, "web", uid_range=(0, 0))


def test_an_address_that_a_user_gave_is_avoided(layout: Layout) -> None:
    taken = allocations.predict(layout, "web", ["eth0"], uid_range=None).macs["eth0"]
    given = allocations.allocate(layout, "web", ["eth0"], uid_range=None, lock_timeout_s=200, taken_macs=[taken.upper()])
    assert given.macs["eth0"] != taken
    assert given.uid is None


def test_a_prediction_is_what_will_be_given_and_writes_nothing(layout: Layout) -> None:
    predicted = allocations.predict(layout, "web", ["eth0"], uid_range=UID_RANGE)
    assert not os.path.exists(layout.state_dir)
    assert not os.path.exists(layout.lock_dir)
    assert allocate(layout, "web", ["eth0"]) == predicted


def test_a_newer_record_is_not_written_over(layout: Layout) -> None:
    os.makedirs(layout.state_dir)
    pathlib.Path(layout.allocations).write_text('{"schema": 2, "vms": {}}')
    with pytest.raises(FailedPrecondition, match=r"newer unkey\.vmcp"):
        allocate(layout, "web")
    assert pathlib.Path(layout.allocations).read_text() == '{"schema": 2, "vms": {}}'


# --- a table that is lost --------------------------------------------------------------------------------
BRIDGED = {"tap_device": "br0", "id": "eth0"}
TORN = ('{"schema": 1, "vms"', "", "[]", "{}", '{"schema": 1, "vms": {"a": 5}}', '{"schema": 1, "vms": {"a": {"nics": {"eth0": {"mac": 1}}}}}')


def define(layout: Layout, name: str, given: allocations.Allocation, **beside: t.Any) -> None:
    generated = {"uid": given.uid, "cid": given.cid, "macs": dict(given.macs), "taps": {nic: tap for nic, tap in given.taps.items() if nic == "eth0"}}
    definition = Definition(name=name, backend="qemu", backend_version="7.2", binary="/bin/false", config={}, generated={**generated, **beside})
    # Made here by whoever runs the test, who need not be root.
    Store(layout).save(dataclasses.replace(definition, generated={**definition.generated, "uid": None}))
    pathlib.Path(layout.vm(name).definition).write_text(definition.to_json())


@pytest.mark.parametrize("text", [*TORN, None])
def test_a_torn_or_lost_table_is_made_anew_from_what_the_vms_have(layout: Layout, text: str | None) -> None:
    given = {name: allocate(layout, name, ["eth0", "eth1"]) for name in ("a", "b", "c")}
    for name in ("a", "b"):
        define(layout, name, given[name])
    allocations.release(layout, "c", lock_timeout_s=200)
    table = pathlib.Path(layout.allocations)
    table.unlink() if text is None else table.write_text(text)
    told: list[str] = []
    predicted = allocations.predict(layout, "d", ["eth0"], uid_range=UID_RANGE)
    fresh = allocations.allocate(layout, "d", ["eth0"], uid_range=UID_RANGE, lock_timeout_s=200, tell=told.append)
    assert fresh == predicted
    (said,) = told
    assert str(table) in said and "made anew from what 2 VMs have" in said
    torn = pathlib.Path(f"{table}.torn")
    assert (torn.read_text() if torn.exists() else None) == text
    assert text is None or str(torn) in said
    for name in ("a", "b"):
        assert allocate(layout, name, ["eth0", "eth1"]) == given[name]
        assert fresh.uid != given[name].uid and fresh.cid != given[name].cid
    assert len({value for one in (*given.values(), fresh) for value in (*one.macs.values(), *one.taps.values())}) == 14


def test_a_first_table_is_nothing_to_tell_of(layout: Layout) -> None:
    told: list[str] = []
    allocations.allocate(layout, "web", [], uid_range=UID_RANGE, lock_timeout_s=200, tell=told.append)
    assert told == []
    assert not os.path.exists(f"{layout.allocations}.torn")


def test_a_torn_table_is_made_anew_by_a_removal_too(layout: Layout) -> None:
    given = {name: allocate(layout, name) for name in ("a", "b")}
    for name, one in given.items():
        define(layout, name, one)
    pathlib.Path(layout.allocations).write_text("torn")
    told: list[str] = []
    remove_vm(layout, "a", give_back=lambda names: allocations.release(layout, "a", lock_timeout_s=200, tell=told.append))
    assert len(told) == 1
    assert list(json.loads(pathlib.Path(layout.allocations).read_text())["vms"]) == ["b"]


@pytest.mark.parametrize(
    ("text", "uid_is_known", "told"),
    [
        ('{"schema": 99, "generated": {"uid": 70009, "cid": 10009}}', True, False),
        ("torn", False, True),
        ("[1]", False, True),
        ('{"generated": 3}', False, False),
    ],
)
def test_a_definition_that_is_not_ours_to_read_still_says_what_it_has(layout: Layout, text: str, uid_is_known: bool, told: bool) -> None:
    define(layout, "a", allocate(layout, "a"))
    pathlib.Path(layout.vm("a").definition).write_text(text)
    pathlib.Path(layout.allocations).write_text("torn")
    said: list[str] = []
    allocations.allocate(layout, "b", [], uid_range=UID_RANGE, lock_timeout_s=200, tell=said.append)
    record = json.loads(pathlib.Path(layout.allocations).read_text())["vms"].get("a", {})
    assert (record.get("uid") == 70009) is uid_is_known
    assert ("The definition of a cannot be read" in said[0]) is told


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives files to others")
def test_the_owner_of_its_data_is_the_uid_of_a_vm_without_a_readable_definition(layout: Layout) -> None:
    given = {name: allocate(layout, name) for name in ("torn", "kept", "half-removed")}
    for name, one in given.items():
        define(layout, name, one)
        os.chown(layout.vm(name).data, one.uid or 0, one.uid or 0)
    pathlib.Path(layout.vm("torn").definition).write_text("torn")
    os.unlink(layout.vm("kept").definition)
    os.rename(layout.vm("half-removed").dir, f"{layout.vms}/.removing-half-removed")
    pathlib.Path(layout.allocations).write_text("torn")
    assert allocate(layout, "new").uid not in {one.uid for one in given.values()}
    for name in ("torn", "kept"):
        assert allocate(layout, name).uid == given[name].uid


# --- host.json -------------------------------------------------------------------------------------------


def test_no_host_json_means_the_built_in_defaults(tmp_path: pathlib.Path) -> None:
    assert read_host_json(str(tmp_path / "host.json")) == HostDefaults()


def test_host_json_is_read_with_its_unknown_keys(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "host.json"
    body = {
        "schema": 1,
        "backend": "firecracker",
        "boot": {"firecracker": {"kernel": "/opt/vmcp/kernels/vmlinux", "initrd": None}},
        "uid_range": [71000, 72000],
        "limits": {"console_max_bytes": "1M"},
        "collection_version": "0.1.0",
    }
    path.write_text(json.dumps(body))
    assert read_host_json(str(path)) == HostDefaults(
        backend="firecracker",
        boot={"firecracker": {"kernel": "/opt/vmcp/kernels/vmlinux"}},
        uid_range=(71000, 72000),
        console_max_bytes=1 << 20,
        extra={"collection_version": "0.1.0"},
    )


def test_all_that_is_wrong_in_host_json_is_said_at_once(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "host.json"
    path.write_text('{"backend": "xen", "boot": {"qemu": {"kernel": "relative"}, "xen": {}}, "uid_range": [5], "limits": {"console_max_bytes": 1}}')
    with pytest.raises(InvalidArgument) as error:
        read_host_json(str(path))
    fields = [v.field.split(": ")[1] for v in error.value.violations]
    assert fields == ["backend", "boot.qemu.kernel", "boot.xen", "uid_range", "limits.console_max_bytes"]
    assert all(str(path) in v.field for v in error.value.violations)


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [('{"schema": 2}', FailedPrecondition, "schema 2"), ("[]", InvalidArgument, "one JSON object"), ('{"schema', Internal, "not readable JSON")],
)
def test_a_host_json_that_cannot_be_read(tmp_path: pathlib.Path, text: str, error: type[Exception], says: str) -> None:
    path = tmp_path / "host.json"
    path.write_text(text)
    with pytest.raises(error, match=says):
        read_host_json(str(path))


def test_the_default_bound_of_consoles_holds_some_boots() -> None:
    assert CONSOLE_MAX_BYTES >= 1 << 20
