# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs Ansible as its users do, C(ansible-playbook) and C(ansible) as processes, on VMs in directories of the test's own.

One run with many tasks costs a fraction of many runs with one: tests write a list of tasks, let it run through (failures too), and look at the results.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import typing as t

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
PLUGINS = pathlib.Path(__file__).resolve().parent / "callback_plugins"
# Generous: it bounds what hangs, and a busy machine takes its time.
RUN_S = 1500.0

GREETING = "hello from the guest"

Tree = dict[str, t.Any]


def ansible_environment(top: pathlib.Path, path: t.Sequence[str], plugins: pathlib.Path, callback: str) -> dict[str, str]:
    """For an Ansible that has this collection and this callback plugin, keeps all of its own below C(top), and inherits nothing of whoever runs the tests but
    what is foreign to it. C(path): directories before those of PATH."""
    own = ("ANSIBLE_", "UNKEY_VMCP_", "PYTEST_")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(own)},
        "HOME": str(top),
        "LC_ALL": "C.UTF-8",
        "PATH": os.pathsep.join((*path, os.environ.get("PATH", os.defpath))),
        "ANSIBLE_HOME": str(top / "ansible"),
        "ANSIBLE_LOCAL_TEMP": str(top / "ansible" / "tmp"),
        "ANSIBLE_REMOTE_TMP": str(top / "ansible" / "tmp"),
        "ANSIBLE_CALLBACK_PLUGINS": str(plugins),
        "ANSIBLE_CALLBACKS_ENABLED": callback,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT),
        "ANSIBLE_RETRY_FILES_ENABLED": "false",
    }


class Result(dict[str, t.Any]):
    """One task's full result, with what the harness knows about it. C(touched): files that changed meanwhile."""

    def __init__(self, line: Tree) -> None:
        super().__init__(line["result"])
        self.name: str = line["name"]
        self.failed: bool = line["status"] != "ok"
        self.touched: list[str] = line["touched"]
        self.seconds: float = line["seconds"]

    def __repr__(self) -> str:
        return f"<{self.name} {'failed' if self.failed else 'ok'} {json.dumps(self, default=str)[:4000]}>"


@dataclasses.dataclass
class Results:
    """Results by the name of their task, in order."""

    all: list[Result]
    output: str

    def __getitem__(self, name: str) -> Result:
        for result in self.all:
            if result.name == name:
                return result
        raise AssertionError(f"the task '{name}' has no result; there are: {[r.name for r in self.all]}\n{self.output[-4000:]}")

    def ok(self, name: str) -> Result:
        result = self[name]
        assert not result.failed, f"the task '{name}' failed: {result!r}"
        return result

    def refused(self, name: str, code: str) -> Result:
        result = self[name]
        assert result.failed and result.get("code") == code, f"the task '{name}' did not fail with {code}: {result!r}"
        assert result["msg"] and "Traceback" not in result["msg"]
        return result


def task(title: str, module: str = "vmcp_vm", /, *, check: bool | None = None, environment: Tree | None = None, register: str = "", **options: t.Any) -> Tree:
    """A task of ours whose failure does not end the play. C(check): forced on or off."""
    if "wait_for" in options and module in ("vmcp_vm", "vmcp_vms", "vmcp_console"):
        # The default is for hosts that have nothing else to do.
        options.setdefault("wait_timeout", 600)
    body: Tree = {"name": title, f"unkey.vmcp.{module}": options, "ignore_errors": True}
    if check is not None:
        body["check_mode"] = check
    if environment:
        body["environment"] = environment
    if register:
        body["register"] = register
    return body


def pause_s(seconds: float) -> Tree:
    return {"name": f"wait {seconds} s", "ansible.builtin.command": f"sleep {seconds}"}


@dataclasses.dataclass
class Playground:
    """Directories of one test, and Ansible on localhost with them.

    C(prefix): words before the command (another user, a namespace). C(path): directories before PATH. C(python): runs Ansible, which is installed for
    it, and the modules, unless C(modules_python) does that. C(records): where results are written, if not in C(top)."""

    top: pathlib.Path
    path: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    python: str = sys.executable
    modules_python: str = ""
    records: pathlib.Path | None = None
    runs: int = 0

    @property
    def state(self) -> str:
        return str(self.top / "s")

    @property
    def run_dir(self) -> str:
        return str(self.top / "r")

    @property
    def dirs(self) -> Tree:
        return {"state_dir": self.state, "run_dir": self.run_dir}

    def vm_file(self, name: str, file: str) -> pathlib.Path:
        return pathlib.Path(self.state, "vms", name, file)

    # --- commands ---------------------------------------------------------------------------------------
    def play(
        self,
        tasks: list[Tree],
        *,
        defaults: Tree | None = None,
        variables: t.Mapping[str, t.Any] | None = None,
        arguments: t.Sequence[str] = (),
        deadline_s: float = RUN_S,
        **environment: str,
    ) -> Results:
        """Runs the tasks in one play, always with C(--diff), and returns their results. C(defaults): for every task of ours; C(variables): of the play."""
        self.runs += 1
        book = self.top / f"play{self.runs}.yml"
        play = {
            "name": "Test",
            "hosts": "localhost",
            "gather_facts": False,
            "module_defaults": {"group/unkey.vmcp.vmcp": {**self.dirs, **(defaults or {})}},
            "vars": dict(variables or {}),
            "tasks": tasks,
        }
        book.write_text(yaml.safe_dump([play], sort_keys=False, allow_unicode=True), encoding="utf-8")
        return self._run(["ansible-playbook", "--diff", *arguments, str(book)], deadline_s, environment)

    def ad_hoc(self, module: str, *, words: str = "", arguments: t.Sequence[str] = (), deadline_s: float = RUN_S, **options: t.Any) -> Result:
        """C(ansible localhost -m …) and its one result. C(words): the options as C(key=value) instead."""
        given = words or json.dumps({**self.dirs, **options})
        command = ["ansible", "localhost", "-m", f"unkey.vmcp.{module}", "-a", given, *arguments]
        (result,) = self._run(command, deadline_s, {"ANSIBLE_LOAD_CALLBACK_PLUGINS": "1"}).all
        return result

    def _run(self, words: list[str], deadline_s: float, environment: t.Mapping[str, str]) -> Results:
        record = (self.records or self.top) / f"record{time.monotonic_ns()}"
        command = [self.python, str(pathlib.Path(self.python).with_name(words[0])), *words[1:]]
        command += ["-e", f"ansible_python_interpreter={self.modules_python or self.python}"]
        ended = run_in_group([*self.prefix, *command], self._environ(record) | environment, deadline_s)
        lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
        assert lines, f"no task ran (exit code {ended.returncode}): {ended.stdout}"
        return Results([Result(json.loads(line)) for line in lines], ended.stdout)

    def _environ(self, record: pathlib.Path) -> dict[str, str]:
        return {
            **ansible_environment(self.top, self.path, PLUGINS, "vmcp_record"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
            "VMCP_E2E_RECORD": str(record),
            "VMCP_E2E_WATCH": f"{self.state}:{self.run_dir}:{self.run_dir}.locks",
            **self.environment,
        }

    # --- the end ----------------------------------------------------------------------------------------
    def remove_all(self) -> list[str]:
        """Removes every VM through Ansible and returns what is left behind, in words. For a playground without networks, whose dnsmasq would go on."""
        return self.remove_vms() + self._left_behind()

    def remove_vms(self) -> list[str]:
        """Removes every VM through Ansible and returns, in words, what that was not done to."""
        names = sorted(entry.name for entry in pathlib.Path(self.state, "vms").iterdir()) if pathlib.Path(self.state, "vms").is_dir() else []
        # Twice: a protected VM is not removed by a task that takes off the protection.
        steps = [task(f"unprotect {name}", name=name, protected=False, allow_disruption="recreate") for name in names if self._is_protected(name)]
        steps += [task(f"remove {name}", name=name, state="absent") for name in names]
        left = []
        if steps:
            results = self.play(steps)
            left += [f"{name} was not removed: {results[f'remove {name}']!r}" for name in names if results[f"remove {name}"].failed]
        return left

    def _is_protected(self, name: str) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return bool(json.loads(self.vm_file(name, "vm.json").read_text()).get("protected"))
        return False

    def _left_behind(self) -> list[str]:
        # What we know of as last: a supervisor records the end of its VMM in a moment of its own.
        deadline = time.monotonic() + 120
        while (processes := processes_about(str(self.top))) and time.monotonic() < deadline:
            time.sleep(0.05)
        left = [f"process {pid}: {words}" for pid, words in processes.items()]
        left += [f"mount {line}" for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines() if f"{self.top}/" in line]
        left += [
            f"file {path}"
            for directory in (f"{self.state}/vms", self.run_dir)
            for path in sorted(pathlib.Path(directory).glob("**/*"))
            if path.name != ".progress.jsonl"
        ]
        allocations = pathlib.Path(self.state, "allocations.json")
        if allocations.exists() and any(json.loads(allocations.read_text()).get(key) for key in ("vms", "taps", "macs")):
            left.append(f"allocations {allocations.read_text()}")
        return left

    def kill_all(self) -> None:
        """The last resort after a failed test: what still runs with a path of this test's."""
        for pid in processes_about(str(self.top)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def processes_about(text: str) -> dict[int, str]:
    """Processes whose command line, directory or files name C(text), this one and its parents excepted. Pid to command line."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in (os.getpid(), os.getppid()):
            continue
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
            if (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                continue
            if text in words or any(text in file for file in _opened(entry)):
                found[int(entry.name)] = words
    return found


def _opened(entry: pathlib.Path) -> t.Iterator[str]:
    """A process's directory and files. One that it closes meanwhile hides none of the others."""
    for link in (entry / "cwd", *(entry / "fd").iterdir()):
        with contextlib.suppress(FileNotFoundError):
            yield os.readlink(link)


def run_in_group(words: t.Sequence[str], environment: t.Mapping[str, str], deadline_s: float) -> subprocess.CompletedProcess[str]:
    """A command in a process group of its own, which is killed as a whole at the deadline."""
    with subprocess.Popen(
        words, cwd="/", env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            output, _none = process.communicate(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _none = process.communicate(timeout=60)
            raise AssertionError(f"not within {deadline_s:.0f} s: {' '.join(words)}\n{output}") from None
        except BaseException:
            # Whoever interrupts the run does not want to wait for it to end by itself.
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(list(words), process.returncode, output)
