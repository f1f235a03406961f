# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.qemu import words


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


def test_every_run_state_is_read_once() -> None:
    assert not set(words.RUN_STATES) & set(words.STANDING_RUN_STATES)
