# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several hosts on one machine: each an inventory host with a local connection and directories of its own. Playbooks run on them as users run them."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
import typing as t

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import ROOT, RUN_S, Playground, ansible_environment, run_in_group

Tree = dict[str, t.Any]
PLAYBOOKS = ROOT / "playbooks"
PLUGINS = pathlib.Path(__file__).resolve().parent / "callback_plugins"
# Options of tasks that a test has beside those of a playbook.
OF_A_HOST = {"state_dir": "{{ vmcp_state_dir }}", "run_dir": "{{ vmcp_run_dir }}"}


@dataclasses.dataclass
class Played:
    """One run. C(changed): names of the tasks that changed something, by host. C(stats): what the playbook handed on."""

    code: int
    output: str
    changed: dict[str, list[str]]
    stats: Tree

    @property
    def said(self) -> str:
        """The output, wherever lines were broken."""
        return " ".join(self.output.replace("\\n", " ").replace('"', "").split())

    def ok(self) -> Played:
        assert self.code == 0, self.output[-8000:]
        return self

    def unchanged(self) -> Played:
        assert not any(self.ok().changed.values()), self.changed
        return self

    def refused(self, *texts: str) -> Played:
        assert self.code != 0, self.output[-8000:]
        for text in texts:
            assert text in self.said, self.output[-8000:]
        return self


@dataclasses.dataclass
class Hosts:
    """C(lost): hosts to which no connection can be made. C(variables): of single hosts; C(common): of all. C(prefix): words before commands (a namespace)."""

    top: pathlib.Path
    names: tuple[str, ...]
    path: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()
    lost: set[str] = dataclasses.field(default_factory=set)
    variables: dict[str, Tree] = dataclasses.field(default_factory=dict)
    common: Tree = dataclasses.field(default_factory=dict)
    runs: int = 0

    def __post_init__(self) -> None:
        for name in self.names:
            self.ground(name).top.mkdir(mode=0o755)

    def ground(self, name: str) -> Playground:
        return Playground(self.top / name, self.path, self.prefix)

    def inventory(self) -> Tree:
        found = {}
        for name in self.names:
            ground = self.ground(name)
            # Nobody listens on port 1.
            connection = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1} if name in self.lost else {"ansible_connection": "local"}
            found[name] = {**connection, "vmcp_state_dir": ground.state, "vmcp_run_dir": ground.run_dir, **self.variables.get(name, {})}
        common = {"ansible_python_interpreter": sys.executable, "ansible_become": False, "vmcp_host_capacity": {"memory": "1G", "vcpus": 16}}
        return {"all": {"hosts": found, "vars": {**common, **self.common}}}

    def play(self, playbook: str, *arguments: str, check: bool = False, skip: str = "hosts", deadline_s: float = RUN_S, **variables: t.Any) -> Played:
        """A playbook of the collection, or a path. C(skip): tags; the roles would prepare this very machine."""
        self.runs += 1
        inventory, given = self.top / f"inventory{self.runs}.json", self.top / f"given{self.runs}.json"
        record, stats = self.top / f"tasks{self.runs}", self.top / f"stats{self.runs}"
        inventory.write_text(json.dumps(self.inventory()))
        given.write_text(json.dumps(variables))
        words = [sys.executable, str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), "-e", f"@{given}", "--diff"]
        words += [*(["--check"] if check else []), *(["--skip-tags", skip] if skip else []), *arguments]
        words += [playbook if "/" in playbook else f"unkey.vmcp.{playbook}"]
        done = run_in_group([*self.prefix, *words], self._environ(record, stats), deadline_s)
        changed: dict[str, list[str]] = {}
        for line in record.read_text().splitlines() if record.exists() else []:
            entry = json.loads(line)
            changed.setdefault(entry["host"], []).append(entry["task"])
        return Played(done.returncode, done.stdout, changed, json.loads(stats.read_text()) if stats.exists() else {})

    def parts(self, *tasks: Tree) -> Played:
        """A run of single parts of playbooks (C(import_tasks) of what is in PLAYBOOKS), and of what happens between them."""
        templates = self.top / "templates"
        if not templates.exists():
            templates.symlink_to(PLAYBOOKS / "templates")
        book = self.top / "parts.yml"
        book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "module_defaults": {"group/unkey.vmcp.vmcp": OF_A_HOST}, "tasks": tasks}]))
        return self.play(str(book))

    def _environ(self, record: pathlib.Path, stats: pathlib.Path) -> dict[str, str]:
        return {
            **ansible_environment(self.top, self.path, PLUGINS, "fleet_record"),
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_NOCOLOR": "1",
            "FLEET_RECORD": str(record),
            "FLEET_STATS": str(stats),
        }

    # --- what there is ----------------------------------------------------------------------------------
    def vms(self) -> dict[str, dict[str, str]]:
        """Per host, its VMs and whether their process lives."""
        found: dict[str, dict[str, str]] = {}
        for name in self.names:
            directory = pathlib.Path(self.ground(name).state, "vms")
            found[name] = {}
            for entry in sorted(directory.iterdir()) if directory.is_dir() else []:
                try:
                    pid = pathlib.Path(self.ground(name).run_dir, entry.name, "pid").read_text().split()[0]
                except FileNotFoundError:
                    pid = "none"
                found[name][entry.name] = "running" if pathlib.Path("/proc", pid).exists() else "down"
        return found

    def definition(self, host: str, name: str) -> Tree:
        return t.cast("Tree", json.loads(self.ground(host).vm_file(name, "vm.json").read_text()))

    def boot(self, host: str, name: str) -> str:
        """Differs for every boot."""
        return pathlib.Path(self.ground(host).run_dir, name, "pid").read_text()

    def files(self, host: str) -> list[str]:
        return sorted(str(path.relative_to(self.top / host)) for path in (self.top / host).glob("**/*"))

    # --- the end ----------------------------------------------------------------------------------------
    def remove_all(self) -> list[str]:
        return [line for name in self.names for line in self.ground(name).remove_all()]

    def kill_all(self) -> None:
        for name in self.names:
            self.ground(name).kill_all()
