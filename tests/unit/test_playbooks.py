# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks, their variables and their page agree."""

from __future__ import annotations

import pathlib
import re

import pytest
import yaml

from ansible_collections.unkey.vmcp.plugins.module_utils.argument_specs import HOST, IMAGE, LOCK, NETWORK
from ansible_collections.unkey.vmcp.plugins.plugin_utils.variables import INTERNAL, VARIABLES, violations

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = "".join((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") for page in ("fleets", "awx"))
PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml") if not path.stem.startswith(("quickstart", "validate", "awx")))
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "playbooks").rglob("*") if path.suffix in (".yml", ".j2"))


def test_every_variable_is_on_the_page_and_used() -> None:
    described = set(re.findall(r"`(vmcp_[a-z_]+)`", PAGE))
    assert not set(VARIABLES) - described
    of_the_hosts = {name for name in VARIABLES if name in ("vmcp_host_labels", "vmcp_host_capacity")}
    used = set(re.findall(r"\bvmcp_[a-z_]+", SOURCES))
    assert not set(VARIABLES) - used - of_the_hosts


@pytest.mark.parametrize(("file", "module", "spec"), [("site_networks", "vmcp_network", NETWORK), ("site_images", "vmcp_image", IMAGE)])
def test_lists_of_options_have_all_that_their_module_has(file: str, module: str, spec: dict[str, object]) -> None:
    (task,) = yaml.safe_load((ROOT / "playbooks" / "tasks" / f"{file}.yml").read_text(encoding="utf-8"))
    given = task[f"unkey.vmcp.{module}"]
    assert set(given) == {*spec, *HOST, *LOCK} - INTERNAL
    assert all(re.match(rf"{{{{ item\.{name}\b", template) for name, template in given.items()), "each has its own"


def test_a_slip_in_a_list_of_options_is_named() -> None:
    assert said("site", vmcp_networks=[{"name": "a"}, {"name": "b", "nta": True}]) == [
        "vmcp_networks: has in its entry 1 (b) nta, which is no option of vmcp_network. Did you mean nat?"
    ]
    assert said("site", vmcp_images=[{"url": "http://x"}]) == ["vmcp_images: has in its entry 0 (without a name) no name."]
    assert said("site", vmcp_images=[{"name": "a", "uploaded": {}}]) != [] == said("site", vmcp_images=[{"name": "a", "lock_timeout": 5, "state_dir": "/s"}])


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_every_playbook_is_on_the_page_and_validates_first(name: str) -> None:
    assert f"unkey.vmcp.{name}`" in PAGE
    first = yaml.safe_load((ROOT / "playbooks" / f"{name}.yml").read_text(encoding="utf-8"))[0]["tasks"][0]
    assert first["ansible.builtin.import_tasks"] == "tasks/validate.yml" and first["vars"]["vmcp__playbook"] == name


def said(playbook: str, **given: object) -> list[str]:
    return [f"{violation.field}: {violation.message}" for violation in violations(given, playbook)]


def test_what_is_required_is_asked_for_with_an_example() -> None:
    assert said("drain") == ["vmcp_drain_hosts: is required. Say which hosts, as in -e vmcp_drain_hosts=node3."]
    assert [text.partition(":")[0] for text in said("replace_backend")] == [
        "vmcp_replace_backend",
        "vmcp_replace_host",
        "vmcp_replace_step",
        "vmcp_replace_vm",
    ]
    assert said("upgrade") == ["vmcp_upgrade_version: or vmcp_upgrade_kernel is required: what to upgrade to."]
    assert said("upgrade", vmcp_upgrade_version="1.16.1") == ["vmcp_upgrade_backend: is required with vmcp_upgrade_version: whose version that is."]
    assert said("site") == said("upgrade", vmcp_upgrade_kernel="/k") == []


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("vmcp_hosts", 3, "all"),
        ("vmcp_state_dir", "here", "/var/lib/vmcp"),
        ("vmcp_lock_timeout", -1, "60"),
        ("vmcp_backends", ["xen"], "qemu"),
        ("vmcp_kernels", "perhaps", "no"),
        ("vmcp_networks", {"name": "br0"}, [{"name": "br0"}]),
        ("vmcp_vms", "web", {"web": None}),
        ("vmcp_vm_defaults", [], {}),
        ("vmcp_vm_start_batch", 0, 1),
        ("vmcp_fleet_name", "A", "a"),
        ("vmcp_fleet_group", 1, "nodes"),
        ("vmcp_fleet_prune_max", "1.5", "10%"),
        ("vmcp_fenced_hosts", [1], ["h1"]),
        ("vmcp_upgrade_version", 1.1, "1.10"),
        ("vmcp_upgrade_backend", "auto", "qemu"),
        ("vmcp_replace_step", "undo", "abort"),
    ],
)
def test_values(name: str, wrong: object, right: object) -> None:
    assert [violation.field for violation in violations({name: wrong}, "none")] == [name]
    assert not violations({name: right}, "none") and not violations({name: None}, "none")


def test_a_slip_in_a_name_is_told() -> None:
    assert said("site", vmcp_vm_default={}, vmcp_flet=[], vmcp_host_runtime=True, vmcp_vms__inner=1, vmcp_fleet__inner=1) == [
        "vmcp_vm_default: is no variable of these playbooks. Did you mean vmcp_vm_defaults?",
    ]
