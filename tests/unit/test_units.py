# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.model.units import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"), [(0, 0), (512, 512), ("512", 512), ("1k", 1024), ("512M", 512 << 20), ("4GiB", 4 << 30), ("1.5g", 3 << 29), (" 16 G ", 16 << 30)]
)
def test_sizes_are_bytes_or_binary_suffixes(text: int | str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", [True, -1, "", "G", "1.0001k", "5 apples", None, 1.5])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"size|bytes|negative"):
        parse_size(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 1000, 1024, 512 << 20, 3 << 29, 4 << 30])
def test_format_is_exact(size: int) -> None:
    assert parse_size(format_size(size)) == size
