# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every example in the modules' documentation runs as it is written there, but for paths, for which files of the test stand in."""

from __future__ import annotations

import ast
import pathlib
import typing as t

import yaml

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import ROOT, Playground, Tree
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm

# Networks are made in namespaces alone: tests/integration/network runs their examples.
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("vmcp_*.py") if not path.stem.startswith("vmcp_network"))


def examples(module: str) -> list[Tree]:
    tree = ast.parse((ROOT / "plugins" / "modules" / f"{module}.py").read_text(encoding="utf-8"))
    (text,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "EXAMPLES"
    )
    return t.cast(list[Tree], yaml.safe_load(text))


def test_examples(ground: Playground, qemu: Vmm, guest: t.Callable[..., str], disk: str) -> None:
    stand_ins = {"/opt/vmcp/kernels/vmlinux": guest("polite", "login:"), "/var/lib/images/web.img": disk, "count: 500": "count: 3"}
    # The first example of vmcp_vm makes the VM of which all others speak, its last one removes it.
    listed = {module: examples(module) for module in MODULES}
    others = [step for module in MODULES if module != "vmcp_vm" for step in listed[module]]
    steps = [*listed["vmcp_vm"][:1], *others, *listed["vmcp_vm"][1:]]
    text = yaml.safe_dump(steps, sort_keys=False)
    for path, stand_in in stand_ins.items():
        assert path in text, f"no example speaks of {path} any more: choose another stand-in"
        text = text.replace(path, stand_in)
    tasks = yaml.safe_load(text)
    for step in tasks:
        if "backend: firecracker" in yaml.safe_dump(step):
            # Real or not, it wants a bridge that this machine does not have.
            step["check_mode"] = True
    results = ground.play(tasks, UNKEY_VMCP_BACKEND="qemu")
    for module, written in listed.items():
        assert written, f"{module} has no examples"
        for step in written:
            assert f"unkey.vmcp.{module}" in step or f"unkey.vmcp.{module}" not in str(step), "modules are named in full"
            results.ok(step["name"])
    assert results.output.count("\nTASK [") == len(steps)


def test_an_ad_hoc_command_as_readme_writers_type_it(ground: Playground, qemu: Vmm, guest: t.Callable[..., str]) -> None:
    options = {"name": "adhoc", "backend": "qemu", "kernel": guest("halt")}
    predicted = ground.ad_hoc("vmcp_vm", arguments=["--check", "--diff"], **options)
    assert predicted["changed"] and predicted["actions"] == ["define"] and predicted["diff"]["after"]["state"] == "created"
    assert not pathlib.Path(ground.state).exists()
    words = " ".join(f"{key}={value}" for key, value in {**ground.dirs, **options, "vcpus": 2, "memory": "1G"}.items())
    defined = ground.ad_hoc("vmcp_vm", words=words)
    assert (defined["changed"], defined["vm"]["config"]["cpu"]["vcpu_count"], defined["vm"]["config"]["memory"]["size_bytes"]) == (True, 2, 1 << 30)
