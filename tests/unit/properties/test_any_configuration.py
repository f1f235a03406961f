# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any task either plans, as far as the text of the launch file, or is refused with violations: never a traceback, on no backend."""

from __future__ import annotations

import dataclasses
import itertools
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import VmcpError
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.port import Process
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.plugins.module_utils.model.shape import SHAPE
from ansible_collections.unkey.vmcp.plugins.module_utils.model.task import validate_request
from ansible_collections.unkey.vmcp.plugins.module_utils.model.words import BACKENDS
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.desired import desire
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.make import plan_vm
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.plan import Plan
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.situation import Situation
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.launching import launch_of
from ansible_collections.unkey.vmcp.tests.able_host import HOST
from ansible_collections.unkey.vmcp.tests.trees import VALUES

LAYOUT = Layout("/var/lib/vmcp", "/run/vmcp")
GENERATED = {"uid": 70000, "cid": 10000, "macs": {}, "taps": {}}
# Of what an option may well be; what is none of these is in VALUES. By the last part of its path.
PLAUSIBLE: dict[str, tuple[t.Any, ...]] = {
    "network": ("apps",), "address": ("10.80.0.7", ["10.80.0.8", "fd00::8"]), "address_method": ("auto", "dhcp", "kernel", "none"), "vlan": (1, 4094),
    "path": ("/srv/a.img", "/srv/b.img", "/run/x.sock"), "kernel_path": ("/boot/vmlinux",), "initrd_path": ("/boot/initrd",),
    "firmware_path": ("/usr/share/OVMF/OVMF_CODE.fd",), "kernel_args": ("quiet", "console=ttyS0 root=/dev/vdb"), "tap_device": ("tap0", "br0"),
    "id": ("a", "b", "data-1"), "format": ("raw", "qcow2", "vhd", "vhdx"), "io_engine": ("sync", "aio", "io_uring"),
    "output": ("file", "tty", "null", "socket"),
    "mac_address": ("02:00:00:00:00:01",), "template": ("T2", "Skylake-Server", {"cpuid_modifiers": []}), "host_cpus": ([0], [0, 1]), "source": ("/dev/hwrng",),
    "vhost_user_socket": ("/run/v.sock",), "args": (["-name", "x"],), "machine": ({"accel": "tcg"}, {"vmport": "off"}), "qemu": ({"args": []},),
    "firecracker": ({"machine-config": {"smt": True}}, {"logger": {}}), "cloudhypervisor": ({"platform": {"num_pci_segments": 2}}, {"cpus": None}),
}  # fmt: skip
NUMBERS = (0, 1, 2, 4, 256, 1024, "1M", "128M", "2M", "1G", "4G", 10**12)


def _leaves(shape: t.Mapping[str, t.Any], path: tuple[t.Any, ...] = ()) -> t.Iterator[tuple[t.Any, ...]]:
    """Paths of all options; lists have up to two entries."""
    for name, node in shape.items():
        if node["kind"] == "leaf":
            yield (*path, name)
        elif node["kind"] == "tree":
            yield from _leaves(node["fields"], (*path, name))
        else:
            for index in (0, 1):
                yield from _leaves(node["fields"], (*path, name, index))


LEAVES = tuple(_leaves(SHAPE))


def _value(path: tuple[t.Any, ...]) -> st.SearchStrategy[t.Any]:
    likely = st.sampled_from(PLAUSIBLE.get(str(path[-1]), (*NUMBERS, True, False)))
    return st.one_of(likely, likely, likely, st.sampled_from((*NUMBERS, True, False)), st.sampled_from(VALUES), st.text(max_size=20))


def _grown(settings_: t.Sequence[tuple[tuple[t.Any, ...], t.Any]]) -> dict[str, t.Any]:
    """A tree of these options. Of a list with a second entry alone, that is the first."""
    tree: dict[str, t.Any] = {}
    for path, value in settings_:
        place: t.Any = tree
        for step, following in itertools.pairwise(path):
            new: t.Any = [] if isinstance(following, int) else {}
            if isinstance(place, list):
                if len(place) <= step:
                    place.append(new)
                place = place[min(step, len(place) - 1)]
            else:
                place = place.setdefault(step, new)
        place[path[-1]] = value
    return tree


OPTION = st.sampled_from(LEAVES).flatmap(lambda path: st.tuples(st.just(path), _value(path)))
DISK, NIC, KERNEL = [(("storage", 0, "path"), "/srv/a.img")], [(("network", 0, "tap_device"), "tap0")], [(("boot", "kernel_path"), "/boot/vmlinux")]
BASE = st.sampled_from(([], DISK, KERNEL, DISK + KERNEL, NIC + KERNEL, DISK + NIC + KERNEL))
CONFIG = st.builds(lambda base, more: _grown([*base, *more]), BASE, st.lists(OPTION, max_size=4))
BESIDE = st.just({}) | st.fixed_dictionaries(
    {},
    optional={
        "state": st.sampled_from(("present", "running", "paused", "shutdown", "restarted", "asleep")),
        "security": st.sampled_from(({"jail": False}, {"uid": 5}, {"seccomp": None}, {"jail": "maybe"})),
        "restart_policy": st.sampled_from(({"on_reboot": "stop"}, {"on_crash": "restart"}, {"max_per_hour": 0})),
        "workload": st.sampled_from(("serverless", "production", "x")),
        "apply": st.sampled_from(("now", "next_boot")),
        "allow_disruption": st.sampled_from(("none", "restart", "recreate")),
        "wait_for": st.sampled_from((["running"], [{"console": "x"}], [{"console": "("}], [{"vsock": 1}], 7)),
        "memory": st.sampled_from(NUMBERS),
        "disks": st.sampled_from((["/srv/a.img"], [{"path": "/b"}], "x")),
        "networks": st.sampled_from((["tap0"], [{"tap_device": "tap1"}], [1])),
        "labels": st.sampled_from(({"a": "b"}, {"a": None}, [])),
        "metadata": st.sampled_from(({"a": 1}, {}, [])),
        "backend_version": st.sampled_from(("current", "1.16", "53", "7.2")),
    },
)


def _plan(situation: Situation, backend: str, config: t.Any, beside: t.Mapping[str, t.Any]) -> Plan:
    """As C(runner/vm.py) does it. VmcpError when the task is refused."""
    request, violations = validate_request({"name": "web", "backend": backend, "config": config, **beside}, stored={})
    if request is None:
        assert violations
        for violation in violations:
            assert violation.field.isprintable() and violation.message.isprintable(), violation
        raise VmcpError(violations[0].message, violations=violations)
    desired = desire(request, situation, HOST, "digest" if request.metadata is not None else None, "2026-01-01T00:00:00Z")
    made = plan_vm(request, situation, desired, [])
    if made.definition is not None:
        wired = dataclasses.replace(made.definition, generated={**made.definition.generated, **GENERATED})
        again = Definition.from_json(wired.to_json(), "vm.json")
        assert again == wired, "what is written is what is read"
        assert any(file.path == LAYOUT.vm("web").launch and file.text for file in launch_of(LAYOUT.vm("web"), again, {"metadata": request.metadata}).files)
    return made


def _running(definition: Definition) -> Situation:
    return Situation("web", definition, definition, Process(1, "b", 0.0), "running", ever_booted=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_plans_or_yields_violations(backend: str) -> None:
    outcomes = {"planned": 0, "refused": 0, "changed": 0}

    @settings(max_examples=450)
    @given(CONFIG, BESIDE, CONFIG, BESIDE)
    def holds(config: t.Any, beside: dict[str, t.Any], then: t.Any, beside_then: dict[str, t.Any]) -> None:
        try:
            made = _plan(Situation("web"), backend, config, beside)
        except VmcpError as exc:
            assert exc.code and exc.msg
            outcomes["refused"] += 1
            return
        outcomes["planned"] += 1
        assert made.definition is not None
        again = _plan(_running(made.definition), backend, config, {**beside, "state": "present"}) if beside.get("backend_version") is None else None
        assert again is None or not again.changed, "the same again changes nothing"
        try:
            _plan(_running(made.definition), backend, then, beside_then)
            outcomes["changed"] += 1
        except VmcpError as exc:
            assert exc.code and exc.msg

    holds()
    assert min(outcomes.values()) >= 10, outcomes


NAMES = st.sampled_from(list(SHAPE)) | st.text(max_size=5)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | NAMES
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=12)


@settings(max_examples=300)
@given(TREES, st.sampled_from(BACKENDS))
def test_any_tree_at_all(tree: t.Any, backend: str) -> None:
    try:
        _plan(Situation("web"), backend, tree, {})
    except VmcpError as exc:
        assert exc.msg
