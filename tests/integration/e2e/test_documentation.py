# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every example in the modules' documentation runs as it is written there, but for paths, for which files of the test stand in."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import pathlib
import re
import subprocess
import tarfile
import typing as t

import pytest
import yaml

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import ROOT, Playground, Results, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.namespaces import why_no_namespace
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm
from ansible_collections.unkey.vmcp.tests.netns import lead_out, namespaces

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


@dataclasses.dataclass(frozen=True)
class Scene:
    """Where the examples of some modules are played. C(stand_ins): what is put for words of theirs; C(predicted): words of examples that run in check mode,
    each with why; C(lacking): words of examples that a host is refused for lacking what they need, which the error must name (a pattern)."""

    modules: tuple[str, ...]
    stand_ins: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    predicted: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    lacking: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    variables: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)


def play(ground: Playground, scene: Scene, first: str = "") -> Results:
    """C(first): the module whose first example comes before, and whose others come after those of the rest."""
    listed = {module: examples(module) for module in scene.modules}
    assert all(listed.values()), "a module has no examples"
    for module, written in listed.items():
        assert all(f"unkey.vmcp.{module}" in step or "unkey.vmcp." not in str(step) for step in written), "modules are named in full"
    steps = [step for module in scene.modules if module != first for step in listed[module]]
    if first:
        steps = [*listed[first][:1], *steps, *listed[first][1:]]
    text = json.dumps(steps)
    for words, stand_in in scene.stand_ins.items():
        assert words in text, f"no example speaks of {words} any more: choose another stand-in"
        text = text.replace(words, stand_in)
    tasks = json.loads(text)
    for step in tasks:
        if any(words in json.dumps(step) for words in scene.predicted):
            step["check_mode"] = True
        step["ignore_errors"] = True
    results = ground.play(tasks, variables=scene.variables, UNKEY_VMCP_BACKEND="qemu")
    for step in tasks:
        lack = next((lack for words, lack in scene.lacking.items() if words in json.dumps(step)), None)
        if lack is None or not results[step["name"]].failed:
            results.ok(step["name"])
        else:
            assert re.search(lack, results.refused(step["name"], "failed_precondition")["msg"])
    assert results.output.count("\nTASK [") == len(steps)
    return results


def test_examples_of_vms(ground: Playground, qemu: Vmm, guest: t.Callable[..., str], disk: str) -> None:
    # The first example of vmcp_vm makes the VM of which all others speak, its last one removes it.
    scene = Scene(
        modules=("vmcp_vm", "vmcp_vms", "vmcp_vm_info", "vmcp_console", "vmcp_host_info"),
        stand_ins={"/opt/vmcp/kernels/vmlinux": guest("polite", "login:"), "/var/lib/images/web.img": disk, '"count": 500': '"count": 3'},
        predicted={'"backend": "firecracker"': "real or not, it wants a bridge that this machine does not have"},
    )
    play(ground, scene, first="vmcp_vm")


def test_examples_of_disks(ground: Playground) -> None:
    site = ground.top / "site"
    site.mkdir()
    (site / "index.html").write_text("hello")
    play(ground, Scene(("vmcp_disk", "vmcp_disk_info"), stand_ins={"/srv/site": str(site)}, lacking={'"volume_group": "vg0"': "lvm2|vg0"}))


def test_examples_of_images(ground: Playground) -> None:
    name = "debian-12-genericcloud-amd64.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(ground.top / name), "1M"], check=True, timeout=30)
    digest = hashlib.sha512((ground.top / name).read_bytes()).hexdigest()
    (ground.top / "SHA512SUMS").write_text(f"{digest}  {name}\n")
    key = ground.top / "id_ed25519.pub"
    key.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEE somebody\n")
    (ground.top / "etc").mkdir()
    (ground.top / "etc" / "motd").write_text("hello\n")
    with tarfile.open(ground.top / "appliance.tar.gz", "w:gz") as packed:
        packed.add(ground.top / "etc", "etc")
    scene = Scene(
        ("vmcp_image", "vmcp_image_info"),
        stand_ins={
            "https://cloud.debian.org/images/cloud/bookworm/latest/": f"file://{ground.top}/",
            "appliance.tar.zst": f"{ground.top}/appliance.tar.gz",
            "~/.ssh/id_ed25519.pub": str(key),
        },
        predicted={
            '"container": "docker://': "no registry is reached from a test",
            '"package": "linux-image': "it would be downloaded; that is tested elsewhere",
        },
        lacking={'"container": "docker://': "skopeo|registry|docker.io"},
    )
    play(ground, scene)


def test_examples_of_fleets(ground: Playground) -> None:
    play(ground, Scene(("vmcp_fleet",)))


def test_examples_of_networks(ground: Playground) -> None:
    why = why_no_namespace("nft", "dnsmasq")
    if why:
        pytest.skip(why)
    with namespaces("host", "lan") as (host, lan):
        lead_out(host, "eth1", lan, "eth0")
        ground.prefix = host.prefix
        scene = Scene(
            ("vmcp_network", "vmcp_network_info"),
            stand_ins={"{{ groups['vmhosts'] | map('extract', hostvars, 'ansible_host') }}": "{{ ['192.0.2.1', '192.0.2.7'] }}"},
            lacking={'"vlan": 42': "8021q", '"kind": "vxlan"': "vxlan"},
        )
        play(ground, scene)
        gone = ground.play([task(f"{one} gone", "vmcp_network", name=one, state="absent", force=True) for one in ("apps", "lan", "fabric")])
        assert not [result for result in gone.all if result.failed], gone.output


def test_no_module_is_without_a_scene() -> None:
    here = pathlib.Path(__file__).read_text(encoding="utf-8")
    assert not [module for module in MODULES if f'"{module}"' not in here]


def test_an_ad_hoc_command_as_readme_writers_type_it(ground: Playground, qemu: Vmm, guest: t.Callable[..., str]) -> None:
    options = {"name": "adhoc", "backend": "qemu", "kernel": guest("halt")}
    predicted = ground.ad_hoc("vmcp_vm", arguments=["--check", "--diff"], **options)
    assert predicted["changed"] and predicted["actions"] == ["define"] and predicted["diff"]["after"]["state"] == "created"
    assert not pathlib.Path(ground.state).exists()
    words = " ".join(f"{key}={value}" for key, value in {**ground.dirs, **options, "vcpus": 2, "memory": "1G"}.items())
    defined = ground.ad_hoc("vmcp_vm", words=words)
    assert (defined["changed"], defined["vm"]["config"]["cpu"]["vcpu_count"], defined["vm"]["config"]["memory"]["size_bytes"]) == (True, 2, 1 << 30)
