# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a guest answers for an address: asked on its bridge as a neighbour asks, by ARP or neighbour discovery. Standard library only.

Not by a connection or an echo, which a guest's firewall may drop, and not by the kernel's neighbour table, which remembers the boot before.
"""

from __future__ import annotations

import os
import socket
import struct
import time
import typing as t

ASK_AGAIN_S = 0.2
_ETH_ARP = 0x0806
_ARP_REQUEST, _ARP_REPLY = 1, 2
_SOLICITATION, _ADVERTISEMENT = 135, 136
_TARGET_ADDRESS = 2


class Neighbour:
    """One guest's interface as its neighbours see it. C(addresses): those that it ought to have; C(own): the host's address on C(interface), or None.

    A call asks now and then, and never waits: whether one of the addresses was answered for, from the right MAC address, since the first call."""

    def __init__(self, interface: str, mac: str, addresses: t.Sequence[str], own: t.Optional[str] = None) -> None:
        self._interface = interface
        self._mac = bytes.fromhex(mac.replace(":", ""))
        self._four = [socket.inet_aton(address) for address in addresses if ":" not in address]
        self._six = [socket.inet_pton(socket.AF_INET6, address) for address in addresses if ":" in address]
        self._own = socket.inet_aton(own) if own and ":" not in own else bytes(4)
        self._sockets: dict[int, socket.socket] = {}
        self._asked = 0.0

    def __call__(self) -> bool:
        """OSError is none: an interface that is not there yet, or not up, has nobody on it."""
        try:
            if time.monotonic() - self._asked >= ASK_AGAIN_S:
                self._asked = time.monotonic()
                self._ask()
            if not self._heard():
                return False
        except OSError:
            self._close()
            return False
        self._close()
        return True

    def _ask(self) -> None:
        if self._four:
            own_mac = self._own_mac()
            for address in self._four:
                self._arp().send(_arp_request(own_mac, self._own, address))
        for address in self._six:
            solicited = socket.inet_ntop(socket.AF_INET6, b"\xff\x02" + bytes(9) + b"\x01\xff" + address[-3:])
            question = struct.pack("!BBHI16sBB6s", _SOLICITATION, 0, 0, 0, address, 1, 1, self._own_mac())
            self._icmp().sendto(question, (solicited, 0, 0, socket.if_nametoindex(self._interface)))

    def _heard(self) -> bool:
        heard = (_four_of(frame, self._mac) for frame in _received(self._sockets.get(socket.AF_PACKET)))
        if any(address in self._four for address in heard):
            return True
        return any(_six_of(message, self._mac) in self._six for message in _received(self._sockets.get(socket.AF_INET6)))

    def _own_mac(self) -> bytes:
        with open(f"/sys/class/net/{self._interface}/address", encoding="ascii") as stream:
            return bytes.fromhex(stream.read().strip().replace(":", ""))

    def _arp(self) -> socket.socket:
        if socket.AF_PACKET not in self._sockets:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(_ETH_ARP))
            self._sockets[socket.AF_PACKET] = made
            made.bind((self._interface, _ETH_ARP))
        return self._sockets[socket.AF_PACKET]

    def _icmp(self) -> socket.socket:
        if socket.AF_INET6 not in self._sockets:
            made = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMPV6)
            self._sockets[socket.AF_INET6] = made
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, os.fsencode(self._interface))
            # Neighbours take no other for one that has not been through a router.
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        return self._sockets[socket.AF_INET6]

    def _close(self) -> None:
        for one in self._sockets.values():
            one.close()
        self._sockets.clear()
        self._asked = 0.0


def _received(stream: t.Optional[socket.socket]) -> t.Iterator[bytes]:
    while stream is not None:
        try:
            yield stream.recv(2048)
        except BlockingIOError:
            return


def _arp_request(own_mac: bytes, own: bytes, address: bytes) -> bytes:
    return b"\xff" * 6 + own_mac + struct.pack("!HHHBBH6s4s6s4s", _ETH_ARP, 1, 0x0800, 6, 4, _ARP_REQUEST, own_mac, own, bytes(6), address)


def _four_of(frame: bytes, mac: bytes) -> t.Optional[bytes]:
    """The address for which that MAC address answers; None for any other frame."""
    if len(frame) < 42 or frame[20:22] != struct.pack("!H", _ARP_REPLY) or frame[22:28] != mac:
        return None
    return frame[28:32]


def _six_of(message: bytes, mac: bytes) -> t.Optional[bytes]:
    if len(message) < 32 or message[0] != _ADVERTISEMENT or message[24] != _TARGET_ADDRESS or message[26:32] != mac:
        return None
    return message[8:24]
