# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives unpacked: what they hold, and what they must not do."""

from __future__ import annotations

import gzip
import os
import pathlib
import tarfile

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging.archive import unpack_tree
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging.tree import Tree
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging.work import Work
from ansible_collections.unkey.vmcp.tests.archives import directory, entry, hard_link, link, tar

Entry = tuple[tarfile.TarInfo, bytes]


def unpack(work: Work, *entries: Entry, body: bytes | None = None) -> pathlib.Path:
    path = pathlib.Path(work.path("a.tar"))
    path.write_bytes(tar(*entries) if body is None else body)
    tree = Tree(work.path("tree"), work, "a.tar")
    unpack_tree(str(path), tree, work, "a.tar")
    return pathlib.Path(tree.root)


def test_an_archive_is_unpacked_as_it_is(work: Work) -> None:
    xattr = {"SCHILY.xattr.user.note": "hello", "SCHILY.xattr.security.selinux": "x"}
    root = unpack(
        work,
        directory("./etc", mode=0o750, mtime=1000),
        entry("./etc/a", b"text", mode=0o4711, mtime=2000, pax_headers=xattr),
        link("etc/b", "a"),
        hard_link("etc/c", "./etc/a"),
        entry("no/directory/before", b"x"),
        entry("/absolute", b"inside"),
    )
    assert (root / "etc/a").read_bytes() == b"text" and (root / "etc/b").readlink() == pathlib.Path("a")
    status = os.stat(root / "etc/a")
    assert (status.st_mode & 0o7777, status.st_mtime, status.st_nlink) == (0o4711, 2000, 2)
    assert (os.stat(root / "etc").st_mode & 0o7777, os.stat(root / "etc").st_mtime) == (0o750, 1000)
    assert os.listxattr(root / "etc/a") == ["user.note"]
    assert (root / "no/directory/before").exists() and (root / "absolute").read_bytes() == b"inside"


def test_entries_go_through_links_as_a_guest_would_see_them(work: Work) -> None:
    root = unpack(
        work,
        directory("usr/bin"),
        link("bin", "usr/bin"),
        entry("bin/sh", b"shell"),
        link("var/run", "/run"),
        entry("var/run/x", b"in run"),
        link("up", "../../../../usr"),
        entry("up/bin/up", b"up"),
    )
    assert (root / "usr/bin/sh").read_bytes() == b"shell"
    assert (root / "run/x").read_bytes() == b"in run"
    assert (root / "usr/bin/up").read_bytes() == b"up"
    assert (root / "bin").is_symlink()


def outside(work: Work) -> pathlib.Path:
    path = pathlib.Path(work.dir).parent / "outside"
    path.mkdir(exist_ok=True)
    (path / "secret").write_text("secret")
    return path


@pytest.mark.parametrize("target", ["{outside}", "../../outside", "/../../../../../../../../../..{outside}"])
def test_a_link_out_of_the_tree_leads_nowhere(work: Work, target: str) -> None:
    path = outside(work)
    root = unpack(work, link("out", target.format(outside=path)), entry("out/planted", b"x"), entry("out/secret", b"overwritten"))
    assert sorted(os.listdir(path)) == ["secret"] and (path / "secret").read_text() == "secret"
    assert any("planted" in files for _directory, _directories, files in os.walk(root))


def test_a_file_is_not_written_through_a_link(work: Work) -> None:
    path = outside(work)
    root = unpack(work, link("a", str(path / "secret")), entry("a", b"mine"))
    assert (path / "secret").read_text() == "secret" and (root / "a").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([entry("../planted", b"x")], "would leave its directory"),
        ([entry("a/../../planted", b"x")], "would leave its directory"),
        ([hard_link("a", "../outside/secret")], "would leave its directory"),
        ([hard_link("a", "/etc/passwd")], "does not fit what came before it"),
        ([link("l", "/"), hard_link("a", "l/etc/passwd")], "does not fit what came before it"),
        ([directory("d"), hard_link("a", "d")], "hard link to what is no file"),
        ([link("a", "b"), link("b", "a"), entry("a/x", b"")], "links that lead in circles"),
        ([entry("f", b""), entry("f/x", b"")], "does not fit what came before it"),
        ([entry("a" * 300, b"")], "too long"),
        ([entry("a/" * 3000 + "b", b"")], "too long"),
        ([link("a", "")], "leads nowhere"),
        ([entry("a", b"", kind=b"V")], "unknown kind"),
        ([entry("", b"x")], "without a name"),
    ],
)
def test_hostile_entries_are_refused(work: Work, entries: list[Entry], message: str) -> None:
    path = outside(work)
    with pytest.raises(FailedPrecondition, match=message):
        unpack(work, *entries)
    assert sorted(os.listdir(path)) == ["secret"]
    assert "planted" not in os.listdir(work.dir)


def test_a_hard_link_to_a_link_takes_the_link(work: Work) -> None:
    path = outside(work)
    root = unpack(work, link("l", str(path / "secret")), hard_link("h", "l"))
    assert (root / "h").is_symlink() and os.stat(path / "secret").st_nlink == 1


def test_more_than_may_be_is_refused(work: Work) -> None:
    with pytest.raises(FailedPrecondition, match="more than max_size allows"):
        unpack(work, *(entry(f"f{index}", bytes(1 << 20)) for index in range(9)))
    bomb = gzip.compress(tar(entry("f", bytes(16 << 20))))
    assert len(bomb) < 1 << 16
    with pytest.raises(FailedPrecondition, match="more than max_size allows"):
        unpack(work, body=bomb)


def test_a_sparse_file_counts_by_its_length(work: Work) -> None:
    info, _body = entry("f")
    info.size = 1 << 40
    with pytest.raises(FailedPrecondition, match="more than max_size allows"):
        unpack(work, body=info.tobuf() + bytes(1024))


def test_a_header_that_would_fill_memory_is_refused(work: Work) -> None:
    info, _body = entry("././@LongLink", kind=tarfile.GNUTYPE_LONGNAME)
    info.size = 1 << 33
    with pytest.raises(FailedPrecondition, match="whose name or attributes take"):
        unpack(work, body=info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


@pytest.mark.parametrize("keep", [300, 700, 1400])
def test_an_archive_that_is_cut_off_is_told(work: Work, keep: int) -> None:
    body = tar(entry("a", b"x" * 900), entry("b", b"y" * 900))
    with pytest.raises(FailedPrecondition, match=r"no tar archive, or a damaged one|ends too early"):
        unpack(work, body=body[:keep])


def test_what_is_no_archive(work: Work) -> None:
    with pytest.raises(FailedPrecondition, match="is no tar archive, or a damaged one"):
        unpack(work, body=b"<!DOCTYPE html>" * 100)


def test_a_later_entry_replaces_an_earlier_one(work: Work) -> None:
    root = unpack(work, entry("a/b", b"x"), entry("c", b"1"), entry("a", b"file now"), directory("c"), entry("c/d", b"2"), link("c/d", "e"))
    assert (root / "a").read_bytes() == b"file now" and (root / "c/d").is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="owners and device nodes can be made by root alone")
def test_owners_and_devices_are_kept(work: Work) -> None:
    root = unpack(
        work,
        entry("a", b"x", uid=1000, gid=2000, mode=0o6755),
        link("l", "a", uid=7, gid=8),
        entry("null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        entry("fifo", kind=tarfile.FIFOTYPE, uid=5),
    )
    assert (os.stat(root / "a").st_uid, os.stat(root / "a").st_gid, os.stat(root / "a").st_mode & 0o7777) == (1000, 2000, 0o6755)
    assert (os.lstat(root / "l").st_uid, os.lstat(root / "l").st_gid) == (7, 8)
    assert os.stat(root / "null").st_rdev == os.makedev(1, 3)
    assert os.stat(root / "fifo").st_uid == 5
