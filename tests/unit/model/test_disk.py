# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of vmcp_disk: what is right, and every wrong thing at once with its path."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition, Internal
from ansible_collections.unkey.vmcp.plugins.module_utils.model.disk import FileSystem, Source, validate_disk
from ansible_collections.unkey.vmcp.plugins.module_utils.model.disk_record import DiskRecord
from ansible_collections.unkey.vmcp.tests.trees import VALUES


def fields(**options: t.Any) -> dict[str, str]:
    request, violations = validate_disk({"name": "d", **options})
    assert (request is None) == bool(violations)
    return {violation.field: violation.message for violation in violations}


def test_what_is_given_is_read_and_what_is_not_is_none() -> None:
    request, violations = validate_disk({"name": "d", "size": "1G", "filesystem": {"type": "vfat", "uuid": "12ab-34cd"}, "source": None})
    assert not violations and request is not None
    assert request.size_bytes == 1 << 30 and request.format is None and request.source is None
    assert request.filesystem == FileSystem("vfat", None, "12AB-34CD")
    request, _none = validate_disk({"name": "d", "source": {"path": "/a"}, "filesystem": "ext4"})
    assert request is not None and request.source == Source("path", "/a", "raw")


@pytest.mark.parametrize(
    ("options", "field", "text"),
    [
        ({"size": "100"}, "size", "no multiple of a sector"),
        ({"size": 0}, "size", "more than 0"),
        ({"size": "100P"}, "size", "at most 64TiB"),
        ({"size": "64M", "filesystem": "xfs"}, "size", "xfs takes at least 300MiB"),
        ({"filesystem": "ntfs"}, "filesystem.type", "must be one of ext4, xfs, btrfs, vfat, swap"),
        ({"filesystem": {"label": "x"}}, "filesystem.type", "is required"),
        ({"filesystem": {"type": "vfat", "label": "TWELVE-CHARS"}}, "filesystem.label", "1 to 11"),
        ({"filesystem": {"type": "ext4", "uuid": "12AB-34CD"}}, "filesystem.uuid", "must be a UUID"),
        ({"format": "lvm"}, "format", "needs volume_group and thin_pool"),
        ({"thin_pool": "p"}, "thin_pool", "goes with format: lvm"),
        ({"format": "lvm", "thin_pool": "-f", "volume_group": "v"}, "thin_pool", "a name of LVM's"),
        ({"content": "/srv"}, "content", "needs filesystem"),
        ({"content": "/srv", "filesystem": "swap"}, "content", "cannot be put into swap"),
        ({"source": {"image": "a", "disk": "b"}}, "source", "exactly one of image, disk, path"),
        ({"source": {"disk": "../b"}}, "source.disk", "1 to 63 characters"),
        ({"source": {"image": "a", "format": "raw"}}, "source.format", "goes with path alone"),
        ({"source": {"image": "a"}, "filesystem": {"type": "ext4", "label": "x"}}, "source", "brings the file system"),
        ({"sise": 1}, "sise", "Did you mean 'size'?"),
    ],
)
def test_what_is_wrong_is_said_with_its_remedy(options: dict[str, t.Any], field: str, text: str) -> None:
    found = fields(**options)
    assert text in found[field]


@pytest.mark.parametrize("key", ["size", "filesystem", "source", "format", "name", "volume_group", "content"])
def test_no_value_ends_in_a_traceback(key: str) -> None:
    for value in VALUES:
        fields(**{key: value})


def test_records_are_kept_and_foreign_ones_refused() -> None:
    record = DiskRecord("d", "/var/lib/vmcp/disks/d/disk.raw", "raw", 512, extra={"later": 1})
    assert DiskRecord.from_json(record.to_json(), "x") == record
    with pytest.raises(FailedPrecondition, match="has schema 2"):
        DiskRecord.from_json(record.to_json().replace('"schema": 1', '"schema": 2'), "x")
    for text in ("", "[]", "{}", '{"schema": 1}', record.to_json().replace('"raw"', '"ram"'), record.to_json().replace('"/var', '"var')):
        with pytest.raises(Internal):
            DiskRecord.from_json(text, "x")
