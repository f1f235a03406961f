# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays on a fleet, run by ansible-playbook as its users run it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import typing as t

from ansible_collections.unkey.vmcp.tests.hosts.fleet import Fleet
from ansible_collections.unkey.vmcp.tests.hosts.nspawn import REPOSITORY

PLAY_S = 1500


@dataclasses.dataclass(frozen=True)
class Played:
    """C(changed), C(failed): how many tasks, by host. C(tasks): names of those that changed something."""

    code: int
    output: str
    changed: dict[str, int]
    failed: dict[str, int]
    tasks: tuple[str, ...]

    def ok(self) -> Played:
        assert self.code == 0, self.output[-6000:]
        return self

    def unchanged(self) -> Played:
        assert self.ok().tasks == (), self.output[-6000:]
        return self

    def refused(self, *texts: str) -> Played:
        """It failed and said all of this, wherever lines were broken."""
        assert self.code != 0, self.output[-6000:]
        said = " ".join(self.output.replace("\\n", " ").split())
        for text in texts:
            assert text in said, self.output[-6000:]
        return self


def play(fleet: Fleet, plays: t.Sequence[t.Mapping[str, t.Any]] | str, *, check: bool = False, limit: str = "", **variables: t.Any) -> Played:
    """C(plays): a playbook's plays, or its name (C(unkey.vmcp.NAME) or a path). C(variables): extra variables."""
    with tempfile.TemporaryDirectory(prefix="play-", dir=fleet.work) as work:
        inventory, given = f"{work}/inventory.yml", f"{work}/given.json"
        with open(inventory, "w", encoding="utf-8") as stream:
            json.dump(fleet.inventory(), stream)
        with open(given, "w", encoding="utf-8") as stream:
            json.dump(variables, stream)
        playbook = plays if isinstance(plays, str) else f"{work}/play.yml"
        if not isinstance(plays, str):
            with open(playbook, "w", encoding="utf-8") as stream:
                json.dump(plays, stream)
        words = [sys.executable, "-m", "ansible", "playbook", "-i", inventory, "-e", f"@{given}", "--diff", playbook]
        words += ["--check"] if check else []
        words += ["--limit", limit] if limit else []
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_FORKS": "10",
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_FORCE_COLOR": "false",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": f"{fleet.work}/cp",
        }
        done = subprocess.run(words, cwd=REPOSITORY, env=environ, capture_output=True, text=True, timeout=PLAY_S, check=False, stdin=subprocess.DEVNULL)
    output = done.stdout + done.stderr
    recap = re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=\d+\s+failed=(\d+)", output, re.MULTILINE)
    return Played(
        done.returncode,
        output,
        {host: int(changed) for host, changed, dummy in recap},
        {host: int(failed) for host, dummy, failed in recap},
        tuple(_changed_tasks(output)),
    )


def roles(*names: str, **variables: t.Any) -> list[dict[str, t.Any]]:
    """One play with these roles of the collection."""
    return [{"hosts": "hypervisors", "gather_facts": False, "become": True, "vars": variables, "roles": [f"unkey.vmcp.{name}" for name in names]}]


def _changed_tasks(output: str) -> t.Iterator[str]:
    title = ""
    for line in output.splitlines():
        if match := re.match(r"(?:TASK|RUNNING HANDLER) \[(.*)\] \**$", line):
            title = match[1]
        elif line.startswith("changed: "):
            yield title
