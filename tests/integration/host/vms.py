# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hand-made VMs for the tests of launch files and supervisors: stub VMMs in shell, and the real ones as their backends start them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import signal
import tempfile
import typing as t

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import Isolation, LaunchSpec
from ansible_collections.unkey.vmcp.plugins.module_utils.host import launchfile, processes
from ansible_collections.unkey.vmcp.plugins.module_utils.host.files import write_atomic
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout, VmLayout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.store import Store
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition

# A VMM in a few lines: says who it is, makes its "socket" (no more than a name: wait_socket is off unless a test wants it), then does as told.
STUB = """#!/bin/sh
echo "stub speaking: $*"
echo "stub log" >&2
# Its start has been seen, however long that took.
up() { while [ ! -e up ]; do sleep 0.02; done; sleep 0.3; }
case $1 in
    stay) exec sleep 300 ;;
    die) exit "$2" ;;
    exit) up; exit "$2" ;;
    kill) up; kill -"$2" $$ ;;
    up-then) up; shift; "$@"; exit $? ;;
    print) while :; do echo "a line of console output that goes on and on, 0123456789 0123456789 0123456789"; done ;;
    read) shift; for f; do cat "$f" || exit 9; done; exec sleep 300 ;;
    *) exit 64 ;;
esac
"""

NOT_ISOLATED = Isolation(uid=None, jail=False, seccomp=True)


@dataclasses.dataclass
class Maker:
    """Defines VMs below one directory."""

    layout: Layout
    stub: pathlib.Path

    def define(self, name: str, spec: LaunchSpec, isolation: Isolation = NOT_ISOLATED, **options: t.Any) -> VmLayout:
        """What the runner does before a start: definition, documents, launch file."""
        vm = self.layout.vm(name)
        generated = {} if isolation.uid is None else {"uid": isolation.uid}
        Store(self.layout).save(Definition(name=name, backend="firecracker", backend_version="0", binary=spec.argv[0], config={}, generated=generated))
        for document, text in spec.documents.items():
            write_atomic(vm.document(document), text, mode=0o640, gid=-1 if isolation.uid is None else isolation.uid)
        settings = {"shutdown_timeout_s": 2, "start_timeout_s": 20, **options}
        write_atomic(vm.policy, launchfile.render_policy(settings.pop("restart_policy", {})))
        write_atomic(vm.launch, launchfile.render(vm, spec, isolation, **settings))
        return vm

    def stub_spec(self, *words: str, **fields: t.Any) -> LaunchSpec:
        return LaunchSpec(argv=(str(self.stub), *words), wait_socket="", **fields)


@contextlib.contextmanager
def made_below(prefix: str, stub_name: str) -> t.Iterator[Maker]:
    """A maker in a directory of its own; what still runs of its VMs at the end is killed by its verified pid."""
    with tempfile.TemporaryDirectory(prefix=prefix) as top:
        os.chmod(top, 0o711)
        stub = pathlib.Path(top, stub_name)
        stub.write_text(STUB)
        stub.chmod(0o755)
        layout = Layout(state_dir=f"{top}/state", run_dir=f"{top}/run")
        try:
            yield Maker(layout, stub)
        finally:
            for name in Store(layout).names():
                vm = layout.vm(name)
                for path in (vm.supervisor, vm.pid):
                    record = processes.parse_record(path)
                    if record is not None and processes.is_live(record):
                        os.kill(record.pid, signal.SIGKILL)
