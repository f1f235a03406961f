# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's interfaces through netlink (pyroute2): looked at, made, changed and removed. Imported only by tasks on networks: the library costs 130 ms."""

from __future__ import annotations

import contextlib
import errno
import typing as t

from ...errors import FailedPrecondition
from ...planner.network_links import KERNEL_MODULES, VXLAN_PORT, WantedLink, differences, is_as_made
from ...planner.network_situation import HostNetwork, Link, Route
from ...thirdparty import pyroute2

_FLOOD = "00:00:00:00:00:00"
_IFF_UP = 1
_RT_TABLES = (254,)  # main: where routes of interfaces and of the host's administrator are


@contextlib.contextmanager
def _errors(doing: str, kind: str = "") -> t.Iterator[None]:
    """Netlink's errors as ours. C(kind): the type of interface that is being made, which the kernel may not have."""
    library = pyroute2()
    try:
        yield
    except library.NetlinkError as exc:
        if exc.code == errno.EOPNOTSUPP and kind:
            raise FailedPrecondition(no_kind(kind)) from exc
        if exc.code == errno.EPERM:
            raise FailedPrecondition(f"Cannot {doing}: not permitted. Run the task with become: true.") from exc
        raise FailedPrecondition(f"Cannot {doing}: {exc}. Look at 'ip -d link' and run the task again.") from exc


def no_kind(kind: str) -> str:
    module = KERNEL_MODULES[kind]
    return f"The running kernel has no {kind} interfaces (module {module}). Run 'modprobe {module}', or use a kernel that has it."


@contextlib.contextmanager
def _socket() -> t.Iterator[t.Any]:
    with _errors("speak with the kernel about interfaces"), pyroute2().IPRoute() as ipr:
        yield ipr


def observe() -> HostNetwork:
    """All of it in one go."""
    with _socket() as ipr:
        return _observe(ipr)


def _observe(ipr: t.Any) -> HostNetwork:
    messages = list(ipr.get_links())
    names = {message["index"]: message.get_attr("IFLA_IFNAME") for message in messages}
    links = {name: link for message in messages if (name := names[message["index"]]) and (link := _link(message, names, ipr))}
    addresses: dict[str, list[str]] = {}
    for message in ipr.get_addr():
        # On a point-to-point interface ADDRESS is the other end.
        address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        name = names.get(message["index"])
        if name and address:
            addresses.setdefault(name, []).append(f"{address}/{message['prefixlen']}")
    return HostNetwork(links, {name: tuple(listed) for name, listed in addresses.items()}, tuple(_routes(ipr, names)))


def _link(message: t.Any, names: t.Mapping[int, str], ipr: t.Any) -> Link:
    described = message.get_attr("IFLA_LINKINFO")
    kind = described.get_attr("IFLA_INFO_KIND") if described else ""
    data = described.get_attr("IFLA_INFO_DATA") if described else None
    info: dict[str, t.Any] = {}
    if kind == "bridge":
        info = {"mac": message.get_attr("IFLA_ADDRESS")}
    elif kind == "vlan" and data:
        info = {"id": data.get_attr("IFLA_VLAN_ID"), "parent": names.get(message.get_attr("IFLA_LINK") or 0, "")}
    elif kind == "vxlan" and data:
        local = data.get_attr("IFLA_VXLAN_LOCAL") or data.get_attr("IFLA_VXLAN_LOCAL6")
        info = {"id": data.get_attr("IFLA_VXLAN_ID"), "local": local, "peers": _peers(ipr, message["index"])}
    master = message.get_attr("IFLA_MASTER")
    return Link(
        name=message.get_attr("IFLA_IFNAME"),
        index=message["index"],
        kind=kind or "",
        mtu=message.get_attr("IFLA_MTU") or 0,
        up=bool(message["flags"] & _IFF_UP),
        master=names.get(master, "") if master else "",
        info=info,
    )


def _peers(ipr: t.Any, index: int) -> tuple[str, ...]:
    found = []
    for entry in ipr.fdb("dump"):
        if entry["ifindex"] == index and entry.get_attr("NDA_LLADDR") == _FLOOD and entry.get_attr("NDA_DST"):
            found.append(entry.get_attr("NDA_DST"))
    return tuple(sorted(found))


def _routes(ipr: t.Any, names: t.Mapping[int, str]) -> t.Iterator[Route]:
    import socket

    for family, anywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        for message in ipr.get_routes(family=family):
            if (message.get_attr("RTA_TABLE") or message["table"]) not in _RT_TABLES:
                continue
            device = names.get(message.get_attr("RTA_OIF") or 0, "")
            yield Route(f"{message.get_attr('RTA_DST') or anywhere}/{message['dst_len']}", device)


def ensure(wanted: t.Sequence[WantedLink]) -> None:
    """Makes the interfaces what they should be, whatever somebody who was killed has left of them. FailedPrecondition, naming the kernel's module, for a
    type of interface that it does not have."""
    with _socket() as ipr:
        for link in wanted:
            host = _observe(ipr)
            there = host.links.get(link.name)
            if there is not None and link.kind and not is_as_made(there, link):
                with _errors(f"remove {link.name}"):
                    ipr.link("del", index=there.index)
                there = None
            if there is None:
                _make(ipr, link, host)
                host = _observe(ipr)
            if differences([link], host):
                _correct(ipr, link, host)


def _make(ipr: t.Any, link: WantedLink, host: HostNetwork) -> None:
    info = link.info
    options: dict[str, t.Any] = {"ifname": link.name, "kind": link.kind}
    if not link.kind:
        raise FailedPrecondition(f"There is no interface {link.name} on this host any more. Bring it back, or change the network's interface.")
    if link.kind == "bridge":
        options.update(address=info["mac"], br_forward_delay=0)
    elif link.kind == "vlan":
        parent = host.links.get(info["parent"])
        if parent is None:
            raise FailedPrecondition(f"There is no interface {info['parent']} on this host any more. Bring it back, or change the network's interface.")
        options.update(link=parent.index, vlan_id=info["id"])
    elif link.kind == "vxlan":
        local = "vxlan_local6" if ":" in info["local"] else "vxlan_local"
        options.update({"vxlan_id": info["id"], local: info["local"], "vxlan_port": VXLAN_PORT})
    with _errors(f"make the {link.kind} interface {link.name}", link.kind):
        ipr.link("add", **options)


def _correct(ipr: t.Any, link: WantedLink, host: HostNetwork) -> None:
    there = host.links[link.name]
    with _errors(f"set up {link.name}"):
        if link.mtu is not None and there.mtu != link.mtu:
            ipr.link("set", index=there.index, mtu=link.mtu)
        if (link.master or link.kind) and there.master != link.master:
            ipr.link("set", index=there.index, master=host.links[link.master].index if link.master else 0)
        if not there.up:
            ipr.link("set", index=there.index, state="up")
        if link.kind == "bridge":
            _set_addresses(ipr, link, there.index, host.addresses.get(link.name, ()))
        if link.kind == "vxlan":
            known = set(there.info.get("peers", ()))
            for peer in sorted(set(link.peers) - known):
                ipr.fdb("append", ifindex=there.index, lladdr=_FLOOD, dst=peer)
            for peer in sorted(known - set(link.peers)):
                ipr.fdb("del", ifindex=there.index, lladdr=_FLOOD, dst=peer)


def _set_addresses(ipr: t.Any, link: WantedLink, index: int, there: t.Sequence[str]) -> None:
    """The old ones first: with the first address of a subnet the kernel takes away all others of it."""
    for address in there:
        if address not in link.addresses and not address.lower().startswith("fe80:"):
            ip, _slash, length = address.partition("/")
            ipr.addr("del", index=index, address=ip, prefixlen=int(length))
    for address in link.addresses:
        if address not in there:
            ip, _slash, length = address.partition("/")
            extra = {"flags": 0x02} if ":" in ip else {}  # IFA_F_NODAD: it is usable at once, and the network is ours
            ipr.addr("add", index=index, address=ip, prefixlen=int(length), **extra)


def remove(links: t.Sequence[WantedLink]) -> None:
    """Removes those that are ours and are still what we made, and lets go of those that are not. The last first."""
    with _socket() as ipr:
        for link in reversed(links):
            host = _observe(ipr)
            there = host.links.get(link.name)
            if there is None:
                continue
            with _errors(f"remove {link.name}"):
                if link.kind and is_as_made(there, link):
                    ipr.link("del", index=there.index)
                elif not link.kind and there.master == link.master:
                    ipr.link("set", index=there.index, master=0)
