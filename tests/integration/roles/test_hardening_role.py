# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vmcp_hardening on a host with systemd, over ssh. What of the kernel is shared with the machine around it cannot be set here, and is tested by units."""

from __future__ import annotations

import shutil

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.tests.hosts.fleet import Fleet
from ansible_collections.unkey.vmcp.tests.hosts.plays import play, roles

pytestmark = [pytest.mark.systemd, pytest.mark.root]
HOST = "vmcp1"
MINE = {"vmcp_hardening_enforce": True, "vmcp_hardening_items": ["swap", "devices"]}


def test_it_looks_and_where_asked_it_enforces(one: Fleet) -> None:
    looked = play(one, roles("vmcp_hardening")).unchanged()
    assert "not_ok: kernel:" in looked.output or "not_ok: console_loglevel:" in looked.output or "unknown: ecc_memory:" in looked.output
    rules = one.hosts[HOST].root / "etc/udev/rules.d/81-vmcp-hardening.rules"
    one.hosts[HOST].run(["systemctl", "unmask", "swap.target"])
    assert play(one, roles("vmcp_hardening"), check=True, **MINE).ok().changed[HOST] > 0
    assert not rules.exists()
    play(one, roles("vmcp_hardening"), **MINE).ok()
    assert 'KERNEL=="tun", GROUP="kvm", MODE="0660"' in rules.read_text()
    assert one.hosts[HOST].run(["systemctl", "is-enabled", "swap.target"], check=False).stdout.strip() == "masked"
    play(one, roles("vmcp_hardening"), **MINE).unchanged()


def test_a_host_that_does_not_stand_well_is_refused_where_asked(one: Fleet) -> None:
    # The VM was made without a jail: that is for its user to change.
    vm = one.hosts[HOST].root / "var/lib/vmcp/vms/bare"
    vm.mkdir(parents=True)
    definition = Definition(name="bare", backend="qemu", backend_version="7.2.22", binary="/bin/false", config={}, security={"jail": False})
    (vm / "vm.json").write_text(definition.to_json())
    (vm / "vm.json").chmod(0o600)
    try:
        play(one, roles("vmcp_hardening"), vmcp_hardening_fail=True).refused("vm_jail: Without jail, as their definitions say: bare.")
    finally:
        shutil.rmtree(vm)
