# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(vmcp_vm), C(vmcp_vms) and C(vmcp_image) as Ansible builds and ships them, run in processes of its own: many at once, or killed at a chosen point."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import typing as t

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import ROOT, Playground, Result

MODULES = "ansible_collections.unkey.vmcp.plugins.modules"
# What Ansible is asked, so that it builds them: nothing is there, and nothing is done.
_TRIFLES: dict[str, dict[str, t.Any]] = {
    "vmcp_vm": {"name": "nobody", "state": "absent"},
    "vmcp_vms": {"vms": [{"name": "nobody", "state": "absent"}]},
    "vmcp_image": {"name": "nobody", "state": "absent"},
    "vmcp_disk": {"name": "nobody", "state": "absent"},
}
DEADLINE_S = 400
# The last line that a module prints is its result; warnings of libraries may come before.


@dataclasses.dataclass(frozen=True)
class Ended:
    """One run. C(status): exit code, negative for a signal. C(seen): what it did to the outside world, in order;
    empty unless it was counted and came to its end."""

    status: int
    output: str
    seen: list[str]
    seconds: float

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL

    @property
    def result(self) -> Result:
        lines = [line for line in self.output.splitlines() if line.startswith("{")]
        assert lines, f"the module ended with {self.status} and said no result: {self.output}"
        body = json.loads(lines[-1])
        return Result({"name": "module", "result": body, "status": "failed" if body.get("failed") else "ok", "touched": [], "seconds": self.seconds})

    def ok(self) -> Result:
        assert not self.result.failed, repr(self.result)
        return self.result


class BuiltModule:
    """The exploded module and the process that forks for each run. C(options): given to every run."""

    def __init__(self, exploded: pathlib.Path, hidden: dict[str, t.Any], name: str, prefix: t.Sequence[str] = ()) -> None:
        self.options: dict[str, t.Any] = {}
        self._hidden = hidden
        program = pathlib.Path(__file__).with_name("zygote.py")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("UNKEY_VMCP_", "ANSIBLE_"))}
        self._zygote = subprocess.Popen(
            [*prefix, sys.executable, str(program), str(exploded), f"{MODULES}.{name}", str(ROOT / "plugins" / "module_utils")],
            cwd="/",
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *, kill_at: int | None = None, path: t.Sequence[str] = (), alone: bool = False, **options: t.Any) -> Ended:
        (ended,) = self.run_together([options], kill_at=kill_at, path=path, alone=alone)
        return ended

    def run_together(
        self,
        runs: t.Sequence[dict[str, t.Any]],
        *,
        kill_at: int | None = None,
        path: t.Sequence[str] = (),
        alone: bool = False,
        apart_s: float = 0.0,
        deadline_s: int = DEADLINE_S,
    ) -> list[Ended]:
        """Starts all of them, each C(apart_s) after the one before, and waits for all. C(kill_at): see C(zygote.Sentry).
        C(path): before PATH, or instead (C(alone)). C(deadline_s): after which a run is ended by SIGALRM."""
        environment = {"PATH": os.pathsep.join(path if alone else (*path, os.environ.get("PATH", os.defpath)))}
        listed = [
            {
                "arguments": {**self._hidden, **self.options, **options},
                "environment": environment,
                "deadline_s": deadline_s,
                "delay_s": at * apart_s,
                "kill_at": kill_at,
            }
            for at, options in enumerate(runs)
        ]
        assert self._zygote.stdin and self._zygote.stdout
        self._zygote.stdin.write(json.dumps(listed) + "\n")
        self._zygote.stdin.flush()
        line = self._zygote.stdout.readline()
        assert line, f"the process that runs the module ended with code {self._zygote.wait()}"
        return [Ended(**end) for end in json.loads(line)]

    def stop(self) -> None:
        assert self._zygote.stdin
        self._zygote.stdin.close()
        self._zygote.wait(timeout=120)


def build(directory: pathlib.Path, name: str = "vmcp_vm", prefix: t.Sequence[str] = ()) -> BuiltModule:
    """C(prefix): words before what runs it (a namespace). Lets Ansible build the module for a task, keeps the file, and has it unpack itself."""
    ground = Playground(directory, environment={"ANSIBLE_KEEP_REMOTE_FILES": "1"})
    assert not ground.ad_hoc(name, **_TRIFLES[name]).failed
    # Twice, where the host had not got the code yet: they are the same.
    built = next(directory.glob(f"ansible/tmp/**/AnsiballZ_{name}.py"))
    subprocess.run([sys.executable, str(built), "explode"], check=True, capture_output=True, timeout=300)
    exploded = built.parent / "debug_dir"
    arguments = json.loads((exploded / "args").read_text())["ANSIBLE_MODULE_ARGS"]
    return BuiltModule(exploded, {key: value for key, value in arguments.items() if key.startswith("_ansible_")}, name, prefix)
