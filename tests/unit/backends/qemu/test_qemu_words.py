# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.qemu import words

MACHINES = """Supported machines are:
microvm              microvm (i386)
pc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-7.2)
q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)
pc-q35-7.2           Standard PC (Q35 + ICH9, 2009)
pc-q35-7.1           Standard PC (Q35 + ICH9, 2009)
"""


def test_no_value_becomes_another_option() -> None:
    assert words.option("tap", ifname="a,b=c", script=None, vhost=True, cache__direct=False, max_x=1) == "tap,ifname=a,,b=c,vhost=on,cache.direct=off,max-x=1"
    assert words.option("a,b") == "a,,b"


def test_a_document_leaves_out_what_is_not_set() -> None:
    assert json.loads(words.document({"a": None, "b": False, "c": 'x","d":1'})) == {"b": False, "c": 'x","d":1'}


@pytest.mark.parametrize("our_id", ["root", "Data-1_x.y", "0", "disk_0", "a" * 63])
def test_ids_are_reversible(our_id: str) -> None:
    for kind in ("disk", "net", "zone"):
        assert words.our_id(words.wire_id(kind, our_id)) == (kind, our_id)


@pytest.mark.parametrize("foreign", ["drive0", "virtio-disk0", "disk", "disk_", "port_1"])
def test_ids_of_others_are_left_alone(foreign: str) -> None:
    assert words.our_id(foreign) == ("", foreign)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright (c) 2003-2022 Fabrice Bellard", "7.2.22"),
        ("QEMU emulator version 6.2.0 (Debian 1:6.2+dfsg-2ubuntu6.26)", "6.2.0"),
        ("QEMU emulator version 10.0.50", "10.0.50"),
        ("cloud-hypervisor v53.0.0", None),
        ("", None),
    ],
)
def test_versions(text: str, version: str | None) -> None:
    assert words.parse_version(text) == version


def test_accelerators() -> None:
    assert words.parse_accelerators("Accelerators supported in QEMU binary:\ntcg\nkvm\n") == ("kvm", "tcg")
    assert words.parse_accelerators("") == ()


def test_machines() -> None:
    assert words.parse_q35(MACHINES) == "pc-q35-7.2"
    assert words.has_microvm(MACHINES)
    assert words.parse_q35("Supported machines are:\nvirt  QEMU 7.2 ARM Virtual Machine (alias of virt-7.2)\n") is None
    assert not words.has_microvm("none                 empty machine\n")


def test_every_run_state_is_read_once() -> None:
    assert not set(words.RUN_STATES) & set(words.STANDING_RUN_STATES)
