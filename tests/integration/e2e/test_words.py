# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""No name, path, id or kernel argument gets out of its place: each is refused, or arrives as it is and does nothing else."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import GREETING, Playground, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm

# What a shell, a unit file, an option string of QEMU or a JSON document written by hand would trip over. '@' stands for a path that must not come to be.
NASTY_ARGUMENTS = """console=ttyS0 a="b c" d='e' $(touch @) `touch @` ;touch @; &&touch @ |tee @ >@ ${HOME} %i %I %% \\n \\x41 a,b,,id=c "{}" --help -S # end"""
NASTY_PATH = """ker nel,'"$(touch pwned)`touch pwned`%i%%,id=x;&"""
NAMES = ("../up", "a/b", "-a", "A", "a b", "a\nb", "a%i", "$(touch @)", "a" * 64, ".", "vm.json", "a@b", "ä")
BAD_CONFIGS: dict[str, tuple[dict[str, t.Any], str]] = {
    "line break in kernel_args": ({"boot": {"kernel_args": "quiet\nExecStart=/bin/sh"}}, "config.boot.kernel_args"),
    "relative path": ({"boot": {"kernel_path": "vmlinux"}}, "config.boot.kernel_path"),
    "path that goes up": ({"boot": {"kernel_path": "/opt/../etc/shadow"}}, "config.boot.kernel_path"),
    "line break in a path": ({"storage": [{"path": "/a\n/b"}]}, "config.storage[0].path"),
    "option string as an id": ({"storage": [{"path": "/a", "id": "a,readonly=on"}]}, "config.storage[0].id"),
    "option string as a serial number": ({"storage": [{"path": "/a", "serial": "a,b=c"}]}, "config.storage[0].serial"),
    "words as a tap": ({"network": [{"tap_device": "t0 up"}]}, "config.network[0].tap_device"),
    "path as a tap": ({"network": [{"tap_device": "../../etc"}]}, "config.network[0].tap_device"),
    "words as a MAC address": ({"network": [{"tap_device": "t0", "mac_address": "52:54:00:12:34:56,id=x"}]}, "config.network[0].mac_address"),
    "line break in an argument of QEMU": ({"backend_options": {"qemu": {"args": ["-S\n-daemonize"]}}}, "config.backend_options.qemu.args[0]"),
}


def test_names_and_values_that_could_escape_are_refused(ground: Playground, qemu: Vmm, top: pathlib.Path, guest: t.Callable[..., str]) -> None:
    names = [name.replace("@", str(top / "pwned")) if "touch" in name else name for name in NAMES]
    steps = [task(f"name {at}", name=name, state="running", backend="qemu", kernel=guest("halt")) for at, name in enumerate(names)]
    steps += [task(title, name="words", backend="qemu", config=config) for title, (config, _field) in BAD_CONFIGS.items()]
    # All in one, for a task pays for its start: every violation must be named at once.
    steps.append(task("console of a name", "vmcp_console", name="../up"))
    steps.append(task("info of a name", "vmcp_vm_info", names=["../up", "a\nb"]))
    results = ground.play(steps)
    for at, name in enumerate(names):
        refused = results.refused(f"name {at}", "invalid_argument")
        assert [v["field"] for v in refused["violations"]] == ["name"], name
        assert refused.touched == []
    for title, (_config, field) in BAD_CONFIGS.items():
        assert field in [v["field"] for v in results.refused(title, "invalid_argument")["violations"]], (title, results[title])
    results.refused("console of a name", "invalid_argument")
    assert results.ok("info of a name")["missing"] == ["../up", "a\nb"]
    assert not pathlib.Path(ground.state).exists() and not pathlib.Path(ground.run_dir).exists(), "a refused task makes nothing"
    assert not (top / "pwned").exists()


def test_strange_words_arrive_as_they_are(ground: Playground, backend: Vmm, top: pathlib.Path, guest: t.Callable[..., str]) -> None:
    arguments = NASTY_ARGUMENTS.replace("@", str(top / "pwned"))
    kernel = pathlib.Path(guest("cmdline")).rename(top / NASTY_PATH)
    disk = top / f"{NASTY_PATH}.img"
    disk.write_bytes(bytes(1 << 20))
    config = {
        "memory": {"size_bytes": "128M"},
        "boot": {"kernel_path": str(kernel), "kernel_args": arguments},
        "storage": [{"path": str(disk), **({} if backend.backend == "firecracker" else {"serial": "S.1-2_3+"})}],
    }
    condition = [{"console": "^cmdline: .*\n"}]
    results = ground.play(
        [
            # Templates are Ansible's own, and not meant here.
            task(
                "boot",
                name="words",
                state="running",
                backend=backend.backend,
                config=config,
                wait_for=condition,
                labels={"l": "a,b=$(id) 'x\" %i"},
                **backend.options,
            ),
            task("console", "vmcp_console", name="words"),
        ]
    )
    results.ok("boot")
    (line,) = (line for line in results.ok("console")["lines"] if line.startswith("cmdline: "))
    # Firecracker adds its own words behind.
    assert line.removeprefix("cmdline: ").startswith(arguments)
    assert GREETING in results["console"]["text"]
    assert not list(top.glob("**/pwned*")) and not pathlib.Path("/pwned").exists()


# A path far beyond the 107 bytes that a unix socket's may have, with a name of as many letters as a name can have.
@pytest.mark.parametrize("odd", ["s $(touch pwned)'%i\";&" + "long" * 30], ids=["strange-and-long"])
def test_a_state_directory_with_a_strange_name(ground: Playground, backend: Vmm, top: pathlib.Path, guest: t.Callable[..., str], odd: str) -> None:
    dirs = {"state_dir": f"{top}/{odd}", "run_dir": f"{top}/r{odd}"}
    name = "o" * 63
    vsock = {} if backend.backend == "qemu" else {"config": {"vsock": {}}}
    given = {"name": name, "backend": backend.backend, "memory": "128M", "kernel": guest("halt"), **vsock, **dirs}
    results = ground.play(
        [
            task("boot", state="running", wait_for=[{"console": GREETING}], **given, **backend.options),
            task("again", state="running", **given, **backend.options),
            task("pause", name=name, state="paused", **dirs),
            task("remove", name=name, state="absent", **dirs),
        ]
    )
    assert results.ok("boot")["changed"] and not results.ok("again")["changed"]
    assert results.ok("pause")["vm"]["state"] == "paused" and results.ok("remove")["changed"]
    assert not list(top.glob("**/pwned")) and not pathlib.Path("/pwned").exists()
