# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks on hosts that have a firewall: ufw and firewalld as Debian's packages bring them, with what they refuse by themselves."""

from __future__ import annotations

import contextlib
import json
import pathlib
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.hosts import packages
from ansible_collections.unkey.vmcp.tests.hosts.nspawn import Host, HostUnavailable, base_tree, check_possible, made_host, shared
from ansible_collections.unkey.vmcp.tests.integration.systemd import firewalls_inside
from ansible_collections.unkey.vmcp.tests.integration.systemd.on_host import PACKAGES

PASSES = {"out": True, "in by a published port": True, "names": True, "neighbour": True, "what the host has not opened": False}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Host]:
    """A host that can install either, and has neither."""
    with contextlib.ExitStack() as stack:
        try:
            check_possible()
            tree = base_tree(PACKAGES)
            link = tmp_path_factory.mktemp("firewalls") / "debian"
            packages.repository(tree, PACKAGES, ["ufw", "firewalld"], link)
            archives = link.resolve()
            made = made_host(stack, tree, ["--private-network", *(f"--bind-ro={path}" for path in shared([archives]))])
            (made.root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:{archives} ./\n")
            (made.root / "etc/dpkg/dpkg.cfg.d/unsafe-io").write_text("force-unsafe-io\n")
            made.boot()
        except HostUnavailable as exc:
            pytest.skip(str(exc))
        yield made


def install(host: Host, package: str) -> None:
    environ = {"DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", package]):
        host.run(["apt-get", "-q", *words], environ=environ, timeout_s=300)


def seen_on(host: Host, which: str) -> dict[str, t.Any]:
    done = host.python([str(pathlib.Path(firewalls_inside.__file__)), which], timeout_s=400)
    return t.cast("dict[str, t.Any]", json.loads(done.stdout.splitlines()[-1]))


def test_ufw_is_passed(plain: Host) -> None:
    install(plain, "ufw")
    enabled = plain.run(["ufw", "--force", "enable"], check=False)
    if enabled.returncode:
        pytest.skip(f"ufw cannot load its own rules here: {enabled.stderr.strip()[-300:]}")
    try:
        seen = seen_on(plain, "ufw")
    finally:
        plain.run(["ufw", "disable"])
    assert seen["policy"].startswith("deny (incoming)")
    assert "accept" in seen["made"]
    assert seen["at first"] == PASSES
    assert seen["after it was off and on"] == PASSES
    assert seen["and then"] == [[], []]
    assert seen["left"] == ""


def test_firewalld_lets_pass_what_the_warning_tells(plain: Host) -> None:
    install(plain, "firewalld")
    plain.run(["systemctl", "start", "firewalld"], timeout_s=120)
    state = plain.run(["firewall-cmd", "--state"], check=False)
    if state.stdout.strip() != "running":
        pytest.skip(f"firewalld cannot load its own rules here, it is {state.stdout.strip() or state.stderr.strip()!r}")
    seen = seen_on(plain, "firewalld")
    assert seen["policy"] == "public"
    assert not seen["out at first"], "it refuses nothing, so nothing is shown"
    assert seen["after it was restarted"] == PASSES, "what the warning tells lasts"
    assert seen["and then"] == [[], []]
    assert (seen["a peer at first"], seen["a peer after the commands"]) == (False, True), seen["a peer needs"]
    assert seen["and then a vxlan"] == [[], []]
    assert seen["left"] == ""
