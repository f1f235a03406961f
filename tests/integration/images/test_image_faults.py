# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Full disks, several tasks at once, images in use."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import threading
import time

from ansible_collections.unkey.vmcp.tests.archives import entry, tar
from ansible_collections.unkey.vmcp.tests.fakes.http_files import Fault, FileServer
from ansible_collections.unkey.vmcp.tests.integration.images.conftest import Images, Tree


def under_way(images: Images) -> list[str]:
    return [name for name in images.files() if ".work" in name]


def test_a_disk_that_is_too_small_is_told_before_anything_comes(small: pathlib.Path, server: FileServer) -> None:
    images = Images(small)
    server.add("/d", os.urandom(20 << 20))
    message = images.refused("failed_precondition", url=f"{server.url}/d")
    assert "takes 20MiB, and" in message and "free. Free space there" in message


def test_a_disk_that_fills_up_half_way_keeps_the_old_image(small: pathlib.Path, server: FileServer, tmp_path: pathlib.Path) -> None:
    images = Images(small)
    server.add("/old", b"old" * 1024)
    images.make(url=f"{server.url}/old")
    # Of a length that nobody says, so that it comes as a surprise.
    server.add("/new", os.urandom(20 << 20), faults=[Fault(no_length=True)] * 9)
    message = images.refused("failed_precondition", url=f"{server.url}/new")
    assert "No space left on device" in message and "Free space on that file system" in message
    assert images.store.require("x").source["source"] == f"{server.url}/old"
    path = tmp_path / "file"
    path.write_bytes(os.urandom(20 << 20))
    assert "No space left on device" in images.refused("failed_precondition", path=str(path))
    if os.geteuid() == 0:
        path.write_bytes(tar(*(entry(f"f{index}", os.urandom(1 << 20)) for index in range(3))))
        assert "Free space there" in images.refused("failed_precondition", kind="rootfs", path=str(path))
    assert under_way(images) == []


def test_what_was_cut_off_is_kept_for_the_next_run(images: Images, server: FileServer) -> None:
    body = os.urandom(1 << 20)
    server.add("/d", body, etag='"1"', faults=[Fault(cut=500_000)])
    result = images.ask(url=f"{server.url}/d", retries=0)
    assert result["code"] == "unavailable" and len(under_way(images)) == 2
    assert pathlib.Path(images.make(url=f"{server.url}/d")["path"]).read_bytes() == body
    assert server.requests[-1].headers["Range"] == "bytes=500000-" and under_way(images) == []
    # A removal takes parts along.
    server.add("/e", body, etag='"1"', faults=[Fault(cut=500_000)])
    images.ask(url=f"{server.url}/e", retries=0)
    assert len(under_way(images)) == 2
    images.ask(state="absent")
    assert images.files() == set()


def test_what_nobody_goes_on_with_goes_in_the_end(images: Images, server: FileServer) -> None:
    body = os.urandom(1 << 20)
    for name in ("old", "new"):
        server.add(f"/{name}", body, etag='"1"', faults=[Fault(cut=500_000)])
        images.ask(name=name, url=f"{server.url}/{name}", retries=0)
    work = pathlib.Path(images.store.work("old"))
    for path in (*work.iterdir(), work):
        os.utime(path, (time.time() - 15 * 86400,) * 2)
    server.add("/d", b"disk" * 1024)
    before = images.files()
    images.ask(url=f"{server.url}/d", act=False)
    assert images.files() == before, "check mode removes nothing"
    with images.store.locked("old", "a test", 1.0):
        images.make(url=f"{server.url}/d")
        assert work.exists(), "somebody has it"
    assert not images.ask(url=f"{server.url}/d")["changed"]
    assert not work.exists() and pathlib.Path(images.store.work("new"), "download.part").exists()


def test_two_tasks_at_once_fetch_once(images: Images, server: FileServer) -> None:
    server.add("/d", os.urandom(1 << 20), faults=[Fault(hang_s=0.5)])
    results: list[Tree] = []
    threads = [threading.Thread(target=lambda: results.append(images.ask(url=f"{server.url}/d"))) for _number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result["changed"] for result in results) == [False, True], results
    assert len(server.gets("/d")) == 1


def test_a_task_that_waits_too_long_says_for_whom(images: Images, server: FileServer) -> None:
    server.add("/d", bytes(4096))
    with images.store.locked("x", "make the image x", 1):
        result = images.ask(url=f"{server.url}/d", lock_timeout=0)
    assert result["code"] == "deadline_exceeded" and "(make the image x, since" in result["msg"]


def test_an_image_in_use(images: Images, server: FileServer) -> None:
    server.add("/old", b"old." * 1024)
    server.add("/new", b"new." * 1024)
    old = images.make(url=f"{server.url}/old")
    vm = images.layout.vm("web")
    os.makedirs(vm.dir)
    pathlib.Path(vm.definition).write_text("{}")
    images.store.hold("x", "vm:web")
    assert "is used by vm:web" in images.refused("failed_precondition", state="absent")
    # The name moves on; what the VM was made from stays.
    new = images.ask(url=f"{server.url}/new")["image"]
    assert os.path.exists(old["path"]) and new["users"] == []
    images.store.release("vm:web")
    assert not os.path.exists(old["path"])
    pathlib.Path(vm.definition).write_text(json.dumps({"config": {"storage": [{"path": new["path"]}]}}))
    result = images.ask(state="absent", force=True)
    assert result["changed"] and os.path.exists(new["path"]) and images.store.names() == []


def test_content_that_was_lost_is_made_again(images: Images, server: FileServer) -> None:
    server.add("/d", b"x" * 4096)
    image = images.make(url=f"{server.url}/d")
    os.unlink(image["path"])
    result = images.ask(url=f"{server.url}/d")
    assert result["reason"] == "its content is gone" and os.path.exists(image["path"])


def test_no_program_outlives_its_task(images: Images) -> None:
    """A task that is killed takes what it started along."""
    script = (
        "import time; from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging import tools, work; "
        f"tools.run(['sh', '-c', 'echo $$ > {images.top}/pid; exec sleep 300'], work.Work('{images.top}', 1, time.monotonic() + 60, 60), 'waiting')"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=pathlib.Path(__file__).parents[3])
    path = images.top / "pid"
    while not path.exists() or not path.read_text().strip():
        assert process.poll() is None
        time.sleep(0.02)
    sleeping = int(path.read_text())
    process.kill()
    process.wait()
    for _attempt in range(3000):
        try:
            state = pathlib.Path(f"/proc/{sleeping}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            break
        if state == "Z":
            break
        threading.Event().wait(0.02)
    else:
        raise AssertionError("the program still runs")
