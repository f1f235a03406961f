# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a network that its definition keeps: types, limits and forms."""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ..thirdparty_pydantic import BeforeValidator, Field
from .config import Tree
from .fields import Flag, TapName, Whole, read_flag, read_text, read_whole
from .words import NAME_PATTERN, NAME_RULE

_DOMAIN = re.compile(r"(?=.{1,200}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


def _cidr(value: t.Any) -> str:
    text = read_text(value)
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as exc:
        raise ValueError(f"{text!r:.60} must be a network, as in 10.0.0.0/8 or fd00::/8 (bits behind the prefix are 0)") from exc


def _address(value: t.Any) -> str:
    text = read_text(value)
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as exc:
        raise ValueError(f"{text!r:.60} must be an IPv4 or IPv6 address") from exc


def _own_address(version: int, example: str) -> t.Callable[[t.Any], str]:
    def read(value: t.Any) -> str:
        text = read_text(value)
        if not text:
            return ""
        try:
            interface = ipaddress.ip_interface(text)
        except ValueError as exc:
            raise ValueError(f"{text!r:.60} must be the host's address with the length of its prefix, as in {example}") from exc
        if interface.version != version or "/" not in text:
            raise ValueError(f"{text!r:.60} must be the host's IPv{version} address with the length of its prefix, as in {example}")
        if interface.network.num_addresses < 4:
            raise ValueError(f"{text!r:.60} leaves no address for VMs: its prefix is too long")
        return str(interface)

    return read


def _port(value: t.Any) -> int:
    number = read_whole(value)
    if not 1 <= number <= 65535:
        raise ValueError("must be a port, 1 to 65535")
    return int(number)


def _ports(value: t.Any) -> t.Union[int, str]:
    if isinstance(value, str) and "-" in value:
        first, _dash, last = value.partition("-")
        low, high = _port(first), _port(last)
        if low > high:
            raise ValueError(f"{value!r:.40} must begin with the smaller port")
        return f"{low}-{high}"
    return _port(value)


def _nat(value: t.Any) -> t.Union[bool, str]:
    try:
        return bool(read_flag(value))
    except ValueError:
        if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}", value):
            return value
        raise ValueError("must be true, false, or the name of the interface (1 to 15 characters) through which VMs go out") from None


def _vm(value: t.Any) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not re.fullmatch(NAME_PATTERN, text):
        raise ValueError(f"must be the name of a VM: {NAME_RULE}")
    return text


def _domain(value: t.Any) -> str:
    text = read_text(value).lower().strip(".")
    if not _DOMAIN.fullmatch(text):
        raise ValueError(f"{text!r:.60} must be a domain name, as in apps.internal")
    return text


def _range(value: t.Any) -> str:
    first, dash, last = read_text(value).partition("-")
    low, high = _address(first.strip()), _address(last.strip()) if dash else ""
    if not high or (":" in low) != (":" in high) or ipaddress.ip_address(low) > ipaddress.ip_address(high):  # type: ignore[operator]
        raise ValueError("must be the first and the last address of a range, as in 10.80.0.10-10.80.0.99")
    return f"{low}-{high}"


def _ranges(value: t.Any) -> t.Any:
    return [value] if isinstance(value, str) else value


def _dns_names(value: t.Any) -> t.Any:
    if not isinstance(value, dict):
        raise ValueError("must be a dictionary of names and their addresses, as in {db.fabric.internal: [10.90.128.5]}")
    return {_domain(name): [addresses] if isinstance(addresses, str) else addresses for name, addresses in value.items()}


Port = t.Annotated[int, BeforeValidator(_port)]
Ports = t.Annotated[t.Union[int, str], BeforeValidator(_ports)]
Cidr = t.Annotated[str, BeforeValidator(_cidr)]
Address = t.Annotated[str, BeforeValidator(_address)]
AddressRange = t.Annotated[str, BeforeValidator(_range)]


class EgressEntry(Tree):
    cidr: t.Optional[Cidr] = None
    ports: list[Ports] = Field(default_factory=list, max_length=128)
    protocol: t.Optional[t.Literal["tcp", "udp", "icmp"]] = None


class Egress(Tree):
    default: t.Literal["allow", "deny"] = "allow"
    allow: list[EgressEntry] = Field(default_factory=list, max_length=1024)
    deny: list[EgressEntry] = Field(default_factory=list, max_length=1024)


class Forward(Tree):
    host_port: Port
    vm: t.Annotated[str, BeforeValidator(_vm)]
    vm_port: t.Optional[Port] = None
    protocol: t.Literal["tcp", "udp"] = "tcp"


class HostPort(Tree):
    port: Ports
    protocol: t.Literal["tcp", "udp"] = "tcp"


class Vxlan(Tree):
    id: t.Annotated[Whole, Field(ge=1, le=(1 << 24) - 1)]
    peers: t.Annotated[list[Address], Field(min_length=1, max_length=1024)]
    local: t.Optional[Address] = None


class NetworkOptions(Tree):
    """The options that a definition keeps. What was not given is absent, not a default."""

    kind: t.Literal["bridge", "adopted", "uplink", "macvtap", "vxlan"] = "bridge"
    ipv4: t.Annotated[str, BeforeValidator(_own_address(4, "10.80.0.1/24"))] = ""
    ipv6: t.Annotated[str, BeforeValidator(_own_address(6, "fd00:80::1/64"))] = ""
    nat: t.Annotated[t.Union[bool, str], BeforeValidator(_nat)] = False
    dhcp: Flag = False
    domain: t.Optional[t.Annotated[str, BeforeValidator(_domain)]] = None
    dns_servers: list[Address] = Field(default_factory=list, max_length=16)
    dns_names: t.Annotated[dict[str, list[Address]], BeforeValidator(_dns_names), Field(max_length=65536)] = Field(default_factory=dict)
    range: t.Annotated[list[AddressRange], BeforeValidator(_ranges)] = Field(default_factory=list, max_length=2)
    mtu: t.Optional[t.Annotated[Whole, Field(ge=576, le=65521)]] = None
    isolate: Flag = False
    anti_spoofing: Flag = True
    egress: Egress = Field(default_factory=Egress)
    forward: list[Forward] = Field(default_factory=list, max_length=4096)
    host_ports: list[HostPort] = Field(default_factory=list, max_length=1024)
    interface: t.Optional[TapName] = None
    vlan: t.Optional[t.Annotated[Whole, Field(ge=1, le=4094)]] = None
    mode: t.Literal["bridge", "vepa", "private", "passthru"] = "bridge"
    vxlan: t.Optional[Vxlan] = None
