# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.kernel_args import complete, shortest


@pytest.mark.parametrize(
    ("args", "root_read_only", "line"),
    [
        (None, None, "console=ttyS0 panic=1"),
        (None, False, "console=ttyS0 panic=1 root=/dev/vda rw"),
        (None, True, "console=ttyS0 panic=1 root=/dev/vda ro"),
        ("", None, ""),
        ("", False, "root=/dev/vda rw"),
        ("console=hvc0", None, "console=hvc0"),
        ("a  b", True, "a  b root=/dev/vda ro"),
        ("root=/dev/vda1", True, "root=/dev/vda1 ro"),
        ("root=/dev/vda1 rw", True, "root=/dev/vda1 rw"),
        ("rw quiet", True, "rw quiet root=/dev/vda"),
        ("nfsroot=x row", False, "nfsroot=x row root=/dev/vda rw"),
        ("a -- b root=c", False, "a root=/dev/vda rw -- b root=c"),
        ("-- b", True, "root=/dev/vda ro -- b"),
        ("x--y --z", False, "x--y --z root=/dev/vda rw"),
        ("x--y  --  z", False, "x--y root=/dev/vda rw --  z"),
        ("root=x ro --  z", False, "root=x ro --  z"),
    ],
)
def test_only_what_is_missing_is_added(args: str | None, root_read_only: bool | None, line: str) -> None:
    assert complete(args, root_read_only) == line


@pytest.mark.parametrize(
    "line", ["console=ttyS0 root=/dev/vda rw", "quiet root=/dev/vda1 ro", "root=UUID=1 rw  two  blanks", "quiet root=/dev/vda rw -- single ro"]
)
@pytest.mark.parametrize("root_read_only", [True, False])
def test_the_shortest_text_makes_the_same_line(line: str, root_read_only: bool) -> None:
    assert complete(shortest(line, root_read_only), root_read_only) == complete(line, root_read_only)
