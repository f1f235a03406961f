# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles know of distributions and architectures: nothing is missing for one that they say they run on."""

from __future__ import annotations

import pathlib
import re
import typing as t

import pytest
import yaml

ROLES = pathlib.Path(__file__).resolve().parents[3] / "roles"
FAMILIES = {"Debian": "Debian", "Ubuntu": "Debian", "EL": "RedHat"}
ARCHITECTURES = ("x86_64", "aarch64")
Tree = dict[str, t.Any]


def read(path: str) -> Tree:
    return t.cast("Tree", yaml.safe_load((ROLES / path).read_text(encoding="utf-8")))


def versions(role: str) -> list[str]:
    return t.cast("list[str]", read(f"{role}/defaults/main.yml")[f"{role}_versions"])


@pytest.mark.parametrize("role", sorted(path.name for path in ROLES.iterdir()))
def test_every_role_says_the_same_distributions_and_describes_its_options(role: str) -> None:
    said = {platform["name"]: platform["versions"] for platform in read(f"{role}/meta/main.yml")["galaxy_info"]["platforms"]}
    assert said == {"Debian": ["bookworm", "trixie"], "Ubuntu": ["jammy", "noble"], "EL": ["9"]}
    described = {option for entry in read(f"{role}/meta/argument_specs.yml")["argument_specs"].values() for option in entry.get("options") or {}}
    defaults = read(f"{role}/defaults/main.yml") if (ROLES / role / "defaults/main.yml").exists() else {}
    assert set(defaults or {}) <= described, "every default is a described option"
    assert (ROLES / role / "README.md").exists()


@pytest.mark.parametrize("family", sorted(set(FAMILIES.values())))
def test_packages_are_known_for_every_family(family: str) -> None:
    qemu, tools = read("vmcp_qemu/vars/main.yml"), read("vmcp_host/vars/main.yml")["vmcp_host__tools"]
    assert all(qemu["vmcp_qemu__packages"][family][architecture] for architecture in ARCHITECTURES)
    assert qemu["vmcp_qemu__binaries"][family]
    assert {feature for feature, packages in tools[family].items() if packages} == {"vms", "networks", "disks"}


def test_what_is_installed_by_default_can_be_verified_on_every_architecture() -> None:
    firecracker, other = read("vmcp_firecracker/vars/main.yml"), read("vmcp_cloudhypervisor/vars/main.yml")
    digests = [firecracker["vmcp_firecracker__known"][v][f"firecracker-v{v}-{a}.tgz"] for v in versions("vmcp_firecracker") for a in ARCHITECTURES]
    for version in versions("vmcp_cloudhypervisor"):
        known = other["vmcp_cloudhypervisor__known"][version]
        digests += [known[f"{name}-static{suffix}"] for name in ("cloud-hypervisor", "ch-remote") for suffix in ("", "-aarch64")]
    for firmware in other["vmcp_cloudhypervisor__firmwares"].values():
        digests += [firmware["known"][firmware["version"]][firmware["assets"][architecture]] for architecture in ARCHITECTURES]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests) and len(set(digests)) == len(digests)
