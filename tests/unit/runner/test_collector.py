# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collector of cycles is at rest within, and afterwards as it was."""

from __future__ import annotations

import gc

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.runner import collector


@collector.at_rest()
def is_on_within(fail: bool = False) -> bool:
    if fail:
        raise KeyError
    return gc.isenabled()


@pytest.mark.parametrize("before", [True, False])
def test_it_is_as_it_was(before: bool) -> None:
    was = gc.isenabled()
    try:
        (gc.enable if before else gc.disable)()
        assert is_on_within() is False
        assert gc.isenabled() is before
        with pytest.raises(KeyError):
            is_on_within(fail=True)
        assert gc.isenabled() is before
    finally:
        (gc.enable if was else gc.disable)()
