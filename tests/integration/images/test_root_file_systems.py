# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root file systems out of trees, tarballs and container images, looked at by the file systems' own tools."""

from __future__ import annotations

import os
import pathlib
import re
import tarfile
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging.apart import CannotError, apart
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging.work import Work
from ansible_collections.unkey.vmcp.tests.archives import directory, entry, hard_link, layout, link, tar
from ansible_collections.unkey.vmcp.tests.fakes.http_files import FileServer
from ansible_collections.unkey.vmcp.tests.fakes.registry import serve_layout
from ansible_collections.unkey.vmcp.tests.integration.images.conftest import Images, Tree, run, tool

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners of files can be kept by root alone")

PASSWD = b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\n"


def machine() -> bytes:
    """A small root file system as a tarball."""
    return tar(
        directory("./", mode=0o755),
        directory("./usr/bin"),
        link("./bin", "usr/bin"),
        entry("./usr/bin/tool", b"#!/bin/sh\n", mode=0o4755, uid=0, gid=42),
        hard_link("./usr/bin/alias", "./usr/bin/tool"),
        entry("./usr/bin/ping", b"x", mode=0o755, pax_headers={"SCHILY.xattr.security.capability": "\1\0\0\2\0 \0\0\0\0\0\0\0\0\0\0\0\0\0\0"}),
        directory("./etc"),
        entry("./etc/passwd", PASSWD),
        entry("./etc/group", b"root:x:0:\nweb:x:1001:\n"),
        directory("./home/web", uid=1000, gid=1001, mode=0o700),
        directory("./dev"),
        entry("./dev/null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        entry("./var/big", bytes(2 << 20) + b"end"),
        mode="w:gz",
    )


class Ext4:
    """What is in an ext4 image, by debugfs."""

    def __init__(self, path: str) -> None:
        self.path = path
        run("e2fsck", "-fn", path)

    def ask(self, request: str) -> str:
        return run("debugfs", "-R", request, self.path)

    def stat(self, name: str) -> tuple[str, int, int, int]:
        """Type, mode, uid, gid."""
        said = self.ask(f"stat {name}")
        match = re.search(r"Type: (\S+(?: special)?)\s+Mode:\s+(\d+).*?User:\s+(\d+)\s+Group:\s+(\d+)", said, re.S)
        assert match, said
        return match[1], int(match[2], 8), int(match[3]), int(match[4])

    def cat(self, name: str) -> str:
        return self.ask(f"cat {name}")


def assert_is_machine(fs: Ext4) -> None:
    assert fs.stat("/usr/bin/tool") == ("regular", 0o4755, 0, 42)
    assert fs.stat("/bin")[0] == "symlink"
    assert fs.stat("/home/web") == ("directory", 0o700, 1000, 1001)
    assert fs.stat("/dev/null")[:2] == ("character special", 0o666)
    assert fs.ask("stat /usr/bin/alias") == fs.ask("stat /usr/bin/tool")
    assert "security.capability" in fs.ask("ea_list /usr/bin/ping")


@pytest.fixture
def is_apart(tmp_path: pathlib.Path) -> bool:
    """Whether archives can be unpacked without root's rights on this machine."""
    (tmp_path / "probe").mkdir()

    def nothing(_inside: Work) -> Tree:
        pathlib.Path("product").touch()
        return {}

    try:
        apart(nothing, Work(str(tmp_path / "probe"), 1, time.monotonic() + 60, 60), "product", [])
    except CannotError as exc:
        print(f"unpacked by root: {exc}")
        return False
    return True


def additions(images: Images) -> Tree:
    program = images.top / "program"
    program.write_bytes(b"\x7fELF program")
    program.chmod(0o600)
    return {
        "init": "#!/bin/sh\nexec /bin/tool\n",
        "hostname": "web.example",
        "ssh_keys": {"root": ["ssh-ed25519 AAAA me"], "web": ["ssh-ed25519 BBBB you", "ssh-rsa CCCC they"]},
        "files": [
            {"path": "/etc/app/conf", "content": "key=value\n", "owner": "web", "group": "web", "mode": "0640"},
            {"path": "/opt/program", "source": str(program), "mode": "0755", "owner": "7"},
        ],
    }


def test_a_tarball_becomes_ext4(images: Images, server: FileServer, is_apart: bool) -> None:
    server.add("/m.tar.gz", machine())
    image = images.make(kind="rootfs", url=f"{server.url}/m.tar.gz", label="machine", **additions(images))
    fs = Ext4(image["path"])
    assert_is_machine(fs)
    assert image["format"] == "raw" and image["facts"]["filesystem"] == "ext4" and image["facts"]["unprivileged"] == is_apart
    assert image["size_bytes"] == os.path.getsize(image["path"]) < 32 << 20
    assert fs.cat("/etc/hostname") == "web.example\n" and fs.cat("/sbin/init") == "#!/bin/sh\nexec /bin/tool\n"
    assert fs.stat("/sbin/init") == ("regular", 0o755, 0, 0)
    assert fs.cat("/root/.ssh/authorized_keys") == "ssh-ed25519 AAAA me\n" and fs.stat("/root/.ssh")[1:] == (0o700, 0, 0)
    assert fs.cat("/home/web/.ssh/authorized_keys") == "ssh-ed25519 BBBB you\nssh-rsa CCCC they\n"
    assert fs.stat("/home/web/.ssh/authorized_keys")[1:] == (0o600, 1000, 1001)
    assert fs.stat("/etc/app/conf")[1:] == (0o640, 1000, 1001) and fs.stat("/opt/program")[1:] == (0o755, 7, 0)
    assert "machine" in fs.ask("stats -h")


def uuid(fs: Ext4) -> str:
    match = re.search(r"Filesystem UUID:\s+(\S+)", fs.ask("stats -h"))
    assert match
    return match[1]


def test_the_same_source_makes_the_same_file_system(images: Images) -> None:
    path = images.top / "m.tar.gz"
    path.write_bytes(machine())
    one = uuid(Ext4(images.make(kind="rootfs", path=str(path))["path"]))
    again = images.ask(kind="rootfs", path=str(path), force=True)
    assert again["reason"] == "force is set" and uuid(Ext4(again["image"]["path"])) == one
    # Contents of files that are put in count, not only their names.
    program = images.top / "program"
    program.write_text("1")
    options: Tree = {"name": "y", "kind": "rootfs", "path": str(path), "files": [{"path": "/p", "source": str(program)}]}
    images.make(**options)
    program.write_text("2")
    result = images.ask(**options)
    assert result["reason"] == "its source has changed" and Ext4(result["image"]["path"]).cat("/p") == "2"


def test_a_size_is_kept_or_refused(images: Images) -> None:
    path = images.top / "m.tar.gz"
    path.write_bytes(machine())
    image = images.make(kind="rootfs", path=str(path), size="64M")
    assert image["size_bytes"] == 64 << 20 and image["stored_bytes"] < 24 << 20
    assert_is_machine(Ext4(image["path"]))
    path.write_bytes(tar(entry("f", os.urandom(9 << 20))))
    assert "the content alone takes" in images.refused("failed_precondition", name="y", kind="rootfs", path=str(path), size="4M")
    assert "does not fit into size" in images.refused("failed_precondition", name="y", kind="rootfs", path=str(path), size="9500K")


def test_many_small_files_fit(images: Images) -> None:
    path = images.top / "m.tar"
    path.write_bytes(tar(*(entry(f"d{index % 50}/{'n' * 100}{index}", b"x") for index in range(12_000))))
    image = images.make(kind="rootfs", path=str(path))
    assert image["facts"]["entries"] == 12_050
    assert Ext4(image["path"]).cat(f"/d49/{'n' * 100}11999") == "x"


@pytest.mark.parametrize("filesystem", ["ext4", "squashfs"])
def test_a_directory(images: Images, filesystem: str) -> None:
    root = images.top / "tree"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "a").write_text("a")
    os.chown(root / "etc" / "a", 5, 6)
    os.symlink("/etc/passwd", root / "etc" / "hostname")
    options: Tree = {"kind": "rootfs", "path": str(root), "filesystem": filesystem, "hostname": "web"}
    image = images.make(**options)
    # A link there is replaced, and what it leads to on the host is not written.
    assert pathlib.Path("/etc/passwd").read_text().startswith("root:")
    assert (root / "etc" / "hostname").is_symlink()
    if filesystem == "ext4":
        assert Ext4(image["path"]).stat("/etc/a")[2:] == (5, 6) and Ext4(image["path"]).cat("/etc/hostname") == "web\n"
    else:
        said = run("unsquashfs", "-lln", image["path"])
        assert re.search(r"-rw-r--r-- 5/6 .* squashfs-root/etc/a", said)
        assert run("unsquashfs", "-cat", image["path"], "etc/hostname") == "web\n"
    (root / "etc" / "b").write_text("b")
    assert images.ask(**options)["reason"] == "its source has changed"


def test_a_tarball_becomes_squashfs(images: Images) -> None:
    path = images.top / "m.tar.gz"
    path.write_bytes(machine())
    image = images.make(kind="rootfs", path=str(path), filesystem="squashfs", **additions(images))
    said = run("unsquashfs", "-lln", image["path"])
    for line in (
        "-rwsr-xr-x 0/42 .*/usr/bin/tool",
        "crw-rw-rw- 0/0 +1, +3 .*/dev/null",
        "drwx------ 1000/1001 .*/home/web\n",
        "-rw-r----- 1000/1001 .*/etc/app/conf",
    ):
        assert re.search(line, said), said
    assert image["size_bytes"] < 1 << 20


@pytest.mark.parametrize("filesystem", ["ext4", "squashfs"])
def test_a_file_system_is_stored_as_it_is(images: Images, filesystem: str) -> None:
    path = images.top / "m.tar.gz"
    path.write_bytes(machine())
    made = images.make(name="one", kind="rootfs", path=str(path), filesystem=filesystem)
    ready = images.top / "ready"
    ready.write_bytes(pathlib.Path(made["path"]).read_bytes())
    run("xz", "-k", "-1", str(ready))
    for index, source in enumerate((ready, images.top / "ready.xz")):
        assert images.make(name=f"n{index}", kind="rootfs", path=str(source), filesystem=filesystem)["digest"] == made["digest"]
    message = images.refused("failed_precondition", name="y", kind="rootfs", path=str(ready), filesystem=filesystem, hostname="h")
    assert "is a file system already" in message


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([entry("../../etc/planted", b"x")], "would leave its directory"),
        ([link("out", "/etc"), entry("out/vmcp-planted", b"x"), entry("a/b", b""), entry("a/b/c", b"")], "does not fit"),
        ([entry("f", bytes(2 << 20))], "more than max_size allows"),
    ],
)
def test_hostile_tarballs(images: Images, entries: list[tuple[tarfile.TarInfo, bytes]], message: str) -> None:
    path = images.top / "evil.tar"
    path.write_bytes(tar(*entries))
    assert message in images.refused("failed_precondition", kind="rootfs", path=str(path), max_size="1M")
    assert not os.path.exists("/etc/vmcp-planted") and not os.path.exists("/etc/planted")


@pytest.mark.parametrize("filesystem", ["ext4", "squashfs"])
def test_devices(images: Images, filesystem: str) -> None:
    """Those that a later layer hides or replaces are not there; one whose name says too much to the tools is left out, and told."""

    def device(name: str, kind: bytes = tarfile.CHRTYPE, **more: t.Any) -> tuple[tarfile.TarInfo, bytes]:
        return entry(name, kind=kind, devmajor=8, devminor=3, **more)

    odd = "dev/odd name\nrm -rf"
    first = tar(directory("dev"), *(device(f"dev/{name}") for name in ("gone", "file", "kept")), device("old/x"), device("dir/y"), device(odd))
    second = tar(entry("dev/.wh.gone"), entry("dev/file", b"x"), device("dev/disk", tarfile.BLKTYPE, mode=0o660, uid=70000, gid=6), entry("old/.wh..wh..opq"))
    layout(images.top / "l", first, second, tar(entry(".wh.dir")), tag="v1")
    image = images.make(kind="rootfs", container=f"oci:{images.top}/l:v1", filesystem=filesystem)
    if image["facts"]["unprivileged"]:
        assert image["facts"]["skipped_devices"] == [f"/{odd}"]
    if filesystem == "ext4":
        fs = Ext4(image["path"])
        assert fs.stat("/dev/kept")[0] == "character special" and fs.stat("/dev/file")[0] == "regular"
        assert fs.stat("/dev/disk") == ("block special", 0o660, 70000, 6)
        names = fs.ask("ls /dev") + fs.ask("ls /old") + fs.ask("ls /")
    else:
        names = run("unsquashfs", "-lln", image["path"])
        assert re.search(r"brw-rw---- 70000/6 +8, +3 .*/dev/disk", names), names
        assert re.search(r"-rw-r--r-- .*/dev/file", names)
    words = set(re.split(r"[\s/]+", names))
    assert {"kept", "disk", "old"} <= words and not {"gone", "dir", "x", "y"} & words


def test_what_cannot_be_put_in(images: Images) -> None:
    path = images.top / "m.tar.gz"
    path.write_bytes(machine())
    options: Tree = {"kind": "rootfs", "path": str(path)}
    assert "no user 'nobody' (it has root, web)" in images.refused("failed_precondition", **options, ssh_keys={"nobody": ["k"]})
    assert "/etc/group has no 'wheel'" in images.refused("failed_precondition", **options, files=[{"path": "/a", "content": "", "group": "wheel"}])
    assert "is a directory in the image" in images.refused("failed_precondition", **options, files=[{"path": "/etc", "content": ""}])
    assert "There is no /nowhere" in images.refused("not_found", **options, files=[{"path": "/a", "source": "/nowhere"}])


# --- container images -----------------------------------------------------------------------------------
CONFIG = {"Entrypoint": ["/bin/tool"], "Cmd": ["it's", "a b"], "Env": ["PATH=/bin", "A=b c"], "WorkingDir": "/var", "User": "web"}


def container(images: Images) -> pathlib.Path:
    path = images.top / "layout"
    layout(path, machine(), tar(entry("etc/.wh.group"), entry("etc/new", b"2")), tag="v1", config=CONFIG)
    return path


def test_a_container_image_becomes_ext4(images: Images, is_apart: bool) -> None:
    image = images.make(kind="rootfs", container=f"oci:{container(images)}:v1", init="container", hostname="web")
    fs = Ext4(image["path"])
    assert_is_machine(fs)
    assert fs.cat("/etc/new") == "2" and fs.cat("/etc/group") == ""
    assert image["facts"]["container"]["Entrypoint"] == ["/bin/tool"] and image["facts"]["unprivileged"] == is_apart
    script = images.top / "init"
    script.write_text(fs.cat("/sbin/init"))
    run("sh", "-n", str(script))
    lines = script.read_text().splitlines()
    assert "export A='b c'" in lines and "cd /var" in lines
    assert any(line.startswith("su -s /bin/sh web -c ") for line in lines)


def test_a_container_image_that_changes_is_taken_again(images: Images) -> None:
    path = container(images)
    options: Tree = {"kind": "rootfs", "container": f"oci:{path}:v1"}
    images.make(**options)
    (path / "index.json").unlink()
    layout(path, tar(entry("other")), tag="v1")
    result = images.ask(**options)
    assert result["reason"] == "its source has changed" and Ext4(result["image"]["path"]).ask("stat /other")


def test_an_archive_of_a_container_image(images: Images) -> None:
    archive = images.top / "image.tar"
    run("tar", "-C", str(container(images)), "-cf", str(archive), ".")
    assert_is_machine(Ext4(images.make(kind="rootfs", container=f"oci-archive:{archive}:v1")["path"]))


def test_a_container_image_of_a_registry(images: Images) -> None:
    tool("skopeo")
    with serve_layout(container(images), "team/app", "v1") as registry:
        options: Tree = {"kind": "rootfs", "container": f"docker://{registry.address}/team/app:v1", "validate_certs": False}
        predicted = images.ask(**options, act=False)
        assert [step["action"] for step in predicted["steps"]] == ["pull", "make", "publish"] and not registry.requests
        assert_is_machine(Ext4(images.make(**options)["path"]))
        asked = len(registry.requests)
        assert not images.ask(**options)["changed"] and len(registry.requests) == asked
        assert not images.ask(**options, refresh=True)["changed"]
        registry.replace(layout_path(images, tar(entry("newer"))))
        assert "its registry has sha256:" in images.ask(**options, refresh=True, act=False)["reason"]
        result = images.ask(**options, refresh=True)
        assert result["changed"] and Ext4(result["image"]["path"]).ask("stat /newer")
        assert not images.ask(**options, refresh=True)["changed"]
        assert "skopeo ended with" in images.refused("failed_precondition", **{**options, "container": f"docker://{registry.address}/team/none:v1"})


@pytest.mark.parametrize("said_by", ["option", "environment"])
def test_a_registry_is_asked_through_the_proxy(images: Images, monkeypatch: pytest.MonkeyPatch, said_by: str) -> None:
    """Nobody listens there: that is what skopeo complains of, and not of a registry that has no address."""
    tool("skopeo")
    with FileServer() as gone:
        proxy = gone.url
    if said_by == "environment":
        monkeypatch.setenv("https_proxy", proxy)
        monkeypatch.setenv("http_proxy", proxy)
    options: Tree = {"kind": "rootfs", "container": "docker://registry.invalid/app:v1", "retries": 0, "proxy": proxy if said_by == "option" else None}
    message = images.refused("failed_precondition", **options)
    assert "proxyconnect" in message and proxy.rpartition("/")[2] in message


def test_credentials_are_read_where_skopeo_login_leaves_them(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    tool("skopeo")
    directory = images.top / "runtime"
    (directory / "containers").mkdir(parents=True)
    (directory / "containers" / "auth.json").write_text("not json")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    with serve_layout(container(images), "team/app", "v1") as registry:
        options: Tree = {"kind": "rootfs", "container": f"docker://{registry.address}/team/app:v1", "validate_certs": False}
        assert str(directory / "containers" / "auth.json") in images.refused("failed_precondition", **options)


def layout_path(images: Images, *layers: bytes) -> pathlib.Path:
    path = images.top / "newer"
    layout(path, *layers, tag="v1", config=t.cast("Tree", CONFIG))
    return path
