# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Without root: the same files below the user's own directories, no mounts, no uids, no taps."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
USER = 65534

SCRIPT = """
import os, pathlib, sys, time
sys.path[:0] = [{repository!r}, {here!r}]
from vms import STUB, Maker
from ansible_collections.unkey.vmcp.plugins.module_utils.host import allocations, events, locks, processes
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.store import Store
from ansible_collections.unkey.vmcp.plugins.module_utils.host.supervisors.registry import choose, supervisor
from ansible_collections.unkey.vmcp.tests.removals import remove_vm
from ansible_collections.unkey.vmcp.tests.waiting import soon, until

layout = Layout.resolve(None, None, os.environ, os.geteuid())
assert layout.state_dir == os.environ["HOME"] + "/.local/state/vmcp", layout
stub = pathlib.Path(os.environ["HOME"], "stub")
stub.write_text(STUB)
stub.chmod(0o755)
maker = Maker(layout, stub)
plain = supervisor(choose("auto", layout, os.geteuid()), layout)
assert plain.name == "plain"
vm = layout.vm("web")
with locks.held(vm.lock, "test", 1):
    given = allocations.allocate(layout, "web", ["eth0"], uid_range=None, lock_timeout_s=1)
    assert given.uid is None
    maker.define("web", maker.stub_spec("stay"))
    assert plain.start([vm], soon()) == {{}}, "starts"
    process = processes.current(vm)
    assert process is not None
    assert os.stat(f"/proc/{{process.pid}}").st_uid == os.geteuid()
    until(lambda: "stub speaking" in pathlib.Path(vm.console_log).read_text(), "the console is written")
    plain.kill(vm, soon())
    assert events.last_exit(events.read(vm)).reason == "request"
    assert plain.remove([vm], soon()) == {{}}
    assert remove_vm(layout, "web")
error = Store(layout).not_found("web", "start")
assert "become: true" in error.msg, error.msg
print("all well")
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: becomes another user")
def test_another_user_than_root_runs_a_vm() -> None:
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    script = SCRIPT.format(repository=str(REPOSITORY), here=str(pathlib.Path(__file__).parent))
    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o755)
        os.chown(home, USER, USER)
        as_user = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", "env", "-i", "PATH=/usr/bin:/bin", f"HOME={home}", str(python)]
        check = subprocess.run(
            [*as_user, "-c", f"import sys; sys.exit(sys.version_info < (3, 10)); open({str(REPOSITORY / 'galaxy.yml')!r})"], timeout=120, check=False
        )
        readable = subprocess.run([*as_user[:-1], "test", "-r", __file__], timeout=120, check=False)
        if python is None or check.returncode != 0 or readable.returncode != 0:
            pytest.skip("another user finds no Python 3.10 here, or may not read the checkout")
        done = subprocess.run([*as_user, "-B", "-c", script], capture_output=True, text=True, timeout=300, check=False)
        assert (done.returncode, done.stdout) == (0, "all well\n"), done.stderr
