# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs come to networks and leave them: many at once, recorded, and known to the kernel."""

from __future__ import annotations

import json
import os
import pathlib
import resource
import threading
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition, InvalidArgument, NotFound
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.network import membership
from ansible_collections.unkey.vmcp.plugins.module_utils.host.networks import Member, NetworkDefinition, NetworkStore, join, leave, leave_all, networks_of
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.network_rules import rules_file
from ansible_collections.unkey.vmcp.tests.netns import Namespace, namespaces

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for namespaces of its own")

APPS = NetworkDefinition(
    "apps",
    "bridge",
    {"ipv4": "10.80.0.1/20", "dhcp": True, "forward": [{"vm": "web", "host_port": 8080, "vm_port": 80}]},
    {"bridge": "vn-apps", "ranges": {"ipv4": ["10.80.0.2", "10.80.15.254"]}},
)


@pytest.fixture
def host() -> t.Iterator[Namespace]:
    with namespaces("host") as (made,):
        yield made


@pytest.fixture
def store(tmp_path: pathlib.Path, host: Namespace) -> NetworkStore:
    made = NetworkStore(Layout(str(tmp_path / "state"), str(tmp_path / "run")))
    files = made.files("apps")
    os.makedirs(files.dns)
    pathlib.Path(files.definition).write_text(APPS.to_json())
    host.run("nft", "-f", "-", given=rules_file(made.table, APPS))
    return made


def member(number: int | str, **more: t.Any) -> Member:
    digits = int(number) if isinstance(number, int) else 9999
    return Member(f"vm-{number}" if isinstance(number, int) else number, "eth0", f"vmt{digits}", f"02:00:00:00:{digits >> 8:02x}:{digits & 255:02x}", **more)


def soon() -> float:
    return time.monotonic() + 200


def elements(host: Namespace, store: NetworkStore, family: str, name: str) -> list[t.Any]:
    kind = "map" if name.startswith("forwards") else "set"
    listed = json.loads(host.run("nft", "-j", "list", kind, family, store.table, name))["nftables"]
    return listed[1][kind].get("elem", [])


def test_one_comes_stays_and_goes(host: Namespace, store: NetworkStore) -> None:
    joined = host.call(join, store, {"apps": [member("web")]}, soon())
    (web,) = joined["apps"]
    (address,) = web.addresses
    assert store.members("apps") == (web,)
    assert store.taken("apps") == {address: ("web", "eth0")}
    assert networks_of(store, "web") == {"apps": (web,)}
    assert elements(host, store, "bridge", "macs") == [{"concat": ["vmt9999", web.mac]}]
    assert elements(host, store, "bridge", "v4") == [{"concat": ["vmt9999", address]}]
    assert elements(host, store, "inet", "forwards4") == [[{"concat": ["tcp", 8080]}, {"concat": [address, 80]}]]
    assert pathlib.Path(store.files("apps").dhcp_hosts).read_text() == f"{web.mac},{address},web\n"
    assert pathlib.Path(store.files("apps").dns_hosts).read_text() == f"{address} web.apps.internal web\n"
    before = os.stat(store.files("apps").members).st_mtime_ns
    assert host.call(join, store, {"apps": [member("web")]}, soon()) == joined
    assert os.stat(store.files("apps").members).st_mtime_ns == before, "nothing was new, so nothing is written"
    host.call(leave_all, store, ["web"], soon())
    assert store.members("apps") == ()
    for family, name in (("bridge", "macs"), ("bridge", "v4"), ("bridge", "guarded"), ("inet", "forwards4")):
        assert elements(host, store, family, name) == []
    host.call(leave, store, {"apps": {("web", "eth0")}, "gone": {("a", "b")}}, soon())


def test_what_is_loaded_when_the_host_boots_is_what_the_kernel_has(host: Namespace, store: NetworkStore) -> None:
    host.call(join, store, {"apps": [member("web"), member(1, isolated=True)]}, soon())
    host.call(join, store, {"apps": [member("web", addresses=("10.80.3.3",))]}, soon())
    live = json.loads(host.run("nft", "-j", "list", "ruleset"))
    with namespaces("rebooted") as (rebooted,):
        rebooted.run("nft", "-f", "-", given=rules_file(store.table, APPS))
        rebooted.run("nft", "-f", store.files("apps").member_rules)
        assert _without_handles(json.loads(rebooted.run("nft", "-j", "list", "ruleset"))) == _without_handles(live)
    assert ["tcp", 8080] in [entry[0]["concat"] for entry in elements(host, store, "inet", "forwards4")]


def test_the_files_are_the_same_whoever_came_first(host: Namespace, store: NetworkStore) -> None:
    """A task compares them with what it would write, and would else find something to do on every network of several VMs."""
    texts = []
    everybody = [member("web", addresses=("10.80.1.9",)), member(1, addresses=("10.80.1.1",)), member(2, addresses=("10.80.1.2",))]
    for order in (everybody, everybody[::-1]):
        for one in order:
            host.call(join, store, {"apps": [one]}, soon())
        files = store.files("apps")
        texts.append([pathlib.Path(path).read_text() for path in (files.members, files.member_rules, files.dhcp_hosts, files.dns_hosts)])
        host.call(leave_all, store, ["web", "vm-1", "vm-2"], soon())
    assert texts[0] == texts[1]


def _without_handles(tree: t.Any) -> t.Any:
    if isinstance(tree, dict):
        return {key: _without_handles(value) for key, value in tree.items() if key != "handle"}
    if isinstance(tree, list):
        return sorted((_without_handles(entry) for entry in tree), key=lambda entry: json.dumps(entry, sort_keys=True))
    return tree


def test_all_that_is_wrong_is_told_and_nothing_done(host: Namespace, store: NetworkStore) -> None:
    host.call(join, store, {"apps": [member(1, addresses=("10.80.0.9",))]}, soon())
    with pytest.raises(InvalidArgument) as caught:
        host.call(join, store, {"apps": [member(2, addresses=("10.80.0.9",)), member(3, addresses=("10.99.0.1",)), member(4)]}, soon())
    assert [v.field for v in caught.value.violations] == ["config.network[eth0].address"] * 2
    assert [m.vm for m in store.members("apps")] == ["vm-1"]
    with pytest.raises(NotFound, match=r"There is no network app on this host\. Did you mean apps"):
        host.call(join, store, {"app": [member(1)]}, soon())


def test_a_network_that_is_not_up_says_so_and_takes_the_vm_once_it_is(host: Namespace, store: NetworkStore) -> None:
    host.run("nft", "flush", "ruleset")
    with pytest.raises(FailedPrecondition, match=r"run its unkey\.vmcp\.vmcp_network task again"):
        host.call(join, store, {"apps": [member("web")]}, soon())
    host.run("nft", "-f", "-", given=rules_file(store.table, APPS))
    host.call(join, store, {"apps": [member("web")]}, soon())
    assert len(elements(host, store, "bridge", "macs")) == 1
    assert not os.path.exists(store.files("apps").unapplied)


def test_who_leaves_needs_no_rules(host: Namespace, store: NetworkStore) -> None:
    host.call(join, store, {"apps": [member("web"), member(1)]}, soon())
    host.run("nft", "flush", "ruleset")
    host.call(leave_all, store, ["web"], soon())
    assert [m.vm for m in store.members("apps")] == ["vm-1"]
    assert not os.path.exists(store.files("apps").unapplied)


def test_two_hundred_at_once_from_many_tasks_share_no_address(host: Namespace, store: NetworkStore) -> None:
    threads = [threading.Thread(target=host.call, args=(join, store, {"apps": [member(n) for n in range(part, 200, 8)]}, soon())) for part in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.members("apps")) == len(store.taken("apps")) == len(elements(host, store, "bridge", "v4")) == 200


def test_it_costs_little(host: Namespace, store: NetworkStore) -> None:
    """5 ms a VM in bulk and 15 ms for one are promised. This counts processors' time, since how long a disk takes for some syncs is the machine's
    business, and leaves room for a machine whose processors others use too."""
    bulk = min(_took(host, join, store, {"apps": [member(n) for n in range(start, start + 100)]}) for start in (0, 100, 200)) / 100
    single = min(_took(host, join, store, {"apps": [member(n)]}) for n in range(1001, 1010))
    print(f"joining: {bulk * 1000:.2f} ms a VM in bulk, {single * 1000:.1f} ms for one beside 300")
    assert bulk < 0.005
    assert single < 0.025


def _took(host: Namespace, function: t.Callable[..., t.Any], *arguments: t.Any) -> float:
    def timed() -> float:
        began = _processors_s()
        function(*arguments, soon())
        return _processors_s() - began

    return host.call(timed)


def _processors_s() -> float:
    """What this process and those that it has started have taken. In this one nothing else runs meanwhile."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def test_killed_between_any_two_steps_it_is_whole_after_the_next_run(host: Namespace, store: NetworkStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step in turn is the last: after it the process is gone."""

    class KilledError(BaseException):
        pass

    def dead(*arguments: t.Any, **options: t.Any) -> t.Any:
        raise KilledError

    for step in ("commit", "_tell_kernel", "remove"):
        host.call(join, store, {"apps": [member(step)]}, soon())
        host.call(leave_all, store, [step], soon())
        with monkeypatch.context() as patched, pytest.raises(KilledError):
            patched.setattr(membership, step, dead)
            host.call(join, store, {"apps": [member(step)]}, soon())
        (joined,) = host.call(join, store, {"apps": [member(step)]}, soon())["apps"]
        assert elements(host, store, "bridge", "v4") == [{"concat": [joined.tap, joined.addresses[0]]}], f"killed in {step}"
        with monkeypatch.context() as patched, pytest.raises(KilledError):
            patched.setattr(membership, step, dead)
            host.call(leave_all, store, [step], soon())
        host.call(leave, store, {"apps": {joined.key}}, soon())
        assert elements(host, store, "bridge", "v4") == [], f"killed in {step}"
