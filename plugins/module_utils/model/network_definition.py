# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network of this host as it is kept in C(network.json), and those who are on it (C(members.json)). Standard library only.

As for VMs: readers accept every older schema, keep keys that they do not know, and refuse a newer one with the version that it needs.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t

from ..errors import FailedPrecondition, Internal
from .words import COLLECTION_VERSION

SCHEMA = 1

KINDS = ("bridge", "adopted", "uplink", "macvtap", "vxlan")
# Where VMs have a tap on a bridge. On the others there is nothing of a VM that the host could filter or serve.
BRIDGED = ("bridge", "adopted", "uplink", "vxlan")
# Where the bridge, and so everything that is on it, is ours.
OWN = ("bridge", "vxlan")

_REMEDY = "Restore it from a backup, or remove the network (state: absent, force: true) and make it anew."


@dataclasses.dataclass(frozen=True)
class NetworkDefinition:
    """What a network should be, and what was chosen for it once. Never changed in place: C(dataclasses.replace).

    C(settings): what the user asked for, defaults of creation written in (C(model.network) says what they are).
    C(generated): what we chose once: C(bridge), C(device) (the port that is ours on it: a vlan or vxlan device)."""

    name: str
    kind: str
    settings: dict[str, t.Any]
    generated: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    created_at: str = ""
    collection_version: str = COLLECTION_VERSION
    schema_version: int = SCHEMA
    extra: dict[str, t.Any] = dataclasses.field(default_factory=dict)

    # --- what those who join need to know -------------------------------------------------------------------
    @property
    def bridge(self) -> t.Optional[str]:
        """The bridge that taps belong on; None for macvtap."""
        return self.generated.get("bridge")

    @property
    def parent(self) -> t.Optional[str]:
        """The host's own interface behind the network: what a macvtap device is made on; None for a bridge without uplink."""
        if self.kind == "adopted":
            return None
        # A vlan of ours on it.
        return (self.generated.get("device") if self.kind == "macvtap" else None) or self.settings.get("interface")

    @property
    def mtu(self) -> t.Optional[int]:
        """What guests should use; None where the bridge's own decides."""
        return self.settings.get("mtu") or self.generated.get("mtu")

    @property
    def ipv4(self) -> t.Optional[str]:
        """The host's address with prefix length (C(10.80.0.1/24)), which is the guests' gateway; None without one."""
        return self.generated.get("ipv4") or self.settings.get("ipv4") or None

    @property
    def ipv6(self) -> t.Optional[str]:
        return self.generated.get("ipv6") or self.settings.get("ipv6") or None

    @property
    def gateways(self) -> tuple[str, ...]:
        """The host's addresses, without prefix lengths, IPv4 first."""
        return tuple(address.partition("/")[0] for address in (self.ipv4, self.ipv6) if address)

    def prefix_length(self, address: str) -> t.Optional[int]:
        """The prefix length that goes with a guest's address; None where the network has no range of that family."""
        own = self.ipv6 if ":" in address else self.ipv4
        return int(own.partition("/")[2]) if own else None

    @property
    def ranges(self) -> dict[str, list[str]]:
        """What guests get addresses from, C({"ipv4": [first, last], "ipv6": [first, last]}); a family without range is not there."""
        return dict(self.generated.get("ranges") or {})

    @property
    def dhcp(self) -> bool:
        """Whether a DHCP and DNS server of ours answers on the network."""
        return bool(self.settings.get("dhcp"))

    @property
    def domain(self) -> str:
        """What the guests' names end in."""
        return str(self.settings.get("domain") or f"{self.name}.internal")

    @property
    def nameservers(self) -> tuple[str, ...]:
        """For guests that do not learn theirs by DHCP: ours, or those that were named."""
        return self.gateways if self.dhcp else tuple(self.settings.get("dns_servers") or ())

    @property
    def isolate(self) -> bool:
        return bool(self.settings.get("isolate"))

    @property
    def anti_spoofing(self) -> bool:
        return self.kind in BRIDGED and self.settings.get("anti_spoofing") is not False

    # --- as a file --------------------------------------------------------------------------------------------
    def to_json(self) -> str:
        """Sorted keys, so that equal definitions are equal bytes."""
        body = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        body.update(body.pop("extra"))
        return json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> NetworkDefinition:
        """FailedPrecondition for a newer schema; Internal, with the remedy, for a torn or foreign file."""
        body = read_versioned(text, where)
        known = {f.name for f in dataclasses.fields(cls)} - {"extra"}
        try:
            made = cls(**{k: v for k, v in body.items() if k in known}, extra={k: v for k, v in body.items() if k not in known})
        except TypeError as exc:
            raise Internal(f"{where} lacks what a network must have: {exc}. {_REMEDY}") from exc
        trees = all(isinstance(tree, dict) for tree in (made.settings, made.generated))
        if made.kind not in KINDS or not isinstance(made.name, str) or not trees:
            raise Internal(f"{where} is not a network of ours: its kind is {made.kind!r:.60}. {_REMEDY}")
        return made


@dataclasses.dataclass(frozen=True)
class Member:
    """One network interface of a VM on a network. C(tap): the host's end of it; "" on macvtap. C(addresses): at most one of each family, without prefix length;
    none where the network gives none out, or for C(join): to be chosen. C(address_method): how the guest learns them, in the words of the VM's option.
    C(isolated): sees no other VM on the network, also where others see each other."""

    vm: str
    nic_id: str
    tap: str
    mac: str
    addresses: tuple[str, ...] = ()
    hostname: str = ""
    address_method: str = ""
    vlan: t.Optional[int] = None
    isolated: bool = False
    extra: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        return (self.vm, self.nic_id)

    @property
    def host(self) -> str:
        """The name under which others find it in DNS."""
        return self.hostname or self.vm

    def as_dict(self) -> dict[str, t.Any]:
        return {**self.extra, **{key: getattr(self, key) for key in _MEMBER}, "addresses": list(self.addresses)}

    @classmethod
    def from_dict(cls, body: t.Mapping[str, t.Any]) -> Member:
        values = {k: v for k, v in body.items() if k in _MEMBER}
        values["addresses"] = tuple(values.get("addresses", ()))
        return cls(**values, extra={k: v for k, v in body.items() if k not in _MEMBER})


_MEMBER = tuple(field.name for field in dataclasses.fields(Member) if field.name != "extra")


def members_to_json(members: t.Iterable[Member]) -> str:
    """A line for each: the library's own indentation takes ten times as long."""
    encode = json.JSONEncoder(sort_keys=True).encode
    lines = ",\n".join(encode(member.as_dict()) for member in sorted(members, key=lambda member: member.key))
    return f'{{"schema_version": {SCHEMA}, "members": [\n{lines}\n]}}\n'


def members_from_json(text: str, where: str) -> tuple[Member, ...]:
    """FailedPrecondition for a newer schema; Internal for a torn or foreign file."""
    body = read_versioned(text, where)
    try:
        return tuple(Member.from_dict(entry) for entry in body["members"])
    except (KeyError, TypeError, AttributeError) as exc:
        raise Internal(f"{where} does not say who is on the network ({exc}). Restore it from a backup.") from exc


def read_versioned(text: str, where: str) -> dict[str, t.Any]:
    try:
        body = json.loads(text)
        schema = body["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise Internal(f"{where} is not readable ({type(exc).__name__}: {exc}). {_REMEDY}") from exc
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise Internal(f"{where} is none of ours: its schema is {schema!r:.60}. {_REMEDY}")
    if schema > SCHEMA:
        raise FailedPrecondition(
            f"{where} has schema {schema}, written by unkey.vmcp {body.get('collection_version', 'of a newer version')}; this is {COLLECTION_VERSION}, "
            f"which reads up to schema {SCHEMA}. Run the task with that version of the collection or a newer one."
        )
    return t.cast("dict[str, t.Any]", body)
