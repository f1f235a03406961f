# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Readers of single values: what a value must look like so that it can never become more than a value. Standard library only.

No path, id or kernel argument may escape its directory, inject a line into a unit or launch file, a word into a command
line, or a key into a VMM's option string; the rules for that are here, once, and not at the places that use the values.
"""

from __future__ import annotations

import re
import socket
import typing as t

from .words import NAME_PATTERN, NAME_RULE

# Keys that the tree will have in later versions: a clear word beats "unknown key".
RESERVED: dict[str, tuple[str, ...]] = {
    "config": ("numa", "devices", "filesystems", "pmem", "platform", "debug"),
}

# Line and paragraph separators too: some readers of text take them for line ends.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_NAME = re.compile(NAME_PATTERN)
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
# What the kernel takes as an interface name, less what shells and units treat specially.
_TAP = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
UNIX_SOCKET_PATH_MAX = 107
INTERFACE_NAME_MAX = 15
# One address of each family.
ADDRESSES_MAX = 2


def _short(value: t.Any) -> str:
    """A value as it can stand in a message: one line, bounded, and never a number that is too long to print."""
    if isinstance(value, (str, float)):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:57]}..."
    return {bool: "a boolean", int: "a number of that size", dict: "a dictionary", list: "a list"}.get(type(value), "such a value")


def read_text(value: t.Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text (quote it in YAML)")
    if _CONTROL.search(value):
        raise ValueError("must not contain line breaks or other control characters")
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise ValueError("must be valid Unicode text")
    return value


def read_host_path(value: t.Any) -> str:
    path = read_text(value)
    if not path.startswith("/"):
        raise ValueError(f"{_short(path)} must be an absolute path on the host")
    if ".." in path.split("/"):
        raise ValueError(f"{_short(path)} must not contain '..'")
    if len(path.encode()) > 4095:
        raise ValueError("is longer than 4095 bytes")
    return path


def read_socket_path(value: t.Any) -> str:
    path = read_host_path(value)
    if len(path.encode()) > UNIX_SOCKET_PATH_MAX:
        raise ValueError(f"is {len(path.encode())} bytes long; the path of a unix socket ends at {UNIX_SOCKET_PATH_MAX}")
    return path


def read_identifier(value: t.Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not _IDENTIFIER.fullmatch(read_text(value)):
        raise ValueError(f"{_short(value)} must be 1 to 63 letters, digits, '_', '.' or '-', starting with a letter or digit")
    return value


def read_name(value: t.Any) -> str:
    """Of something of ours: a VM, a disk, an image."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not _NAME.fullmatch(read_text(value)):
        raise ValueError(f"{_short(value)} must be {NAME_RULE}")
    return str(value)


def read_token(value: t.Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not _TOKEN.fullmatch(read_text(value)):
        raise ValueError(f"{_short(value)} must be letters, digits, '_', '.', '+' or '-', starting with a letter or digit")
    return value


def read_tap(value: t.Any) -> str:
    if not _TAP.fullmatch(read_text(value)):
        raise ValueError(f"{_short(value)} must be an interface name: 1 to 15 letters, digits, '_', '.' or '-', starting with a letter or digit")
    return value


def read_mac(value: t.Any) -> str:
    mac = read_text(value).lower().replace("-", ":")
    if not _MAC.fullmatch(mac):
        raise ValueError(f"{_short(value)} must be six pairs of hexadecimal digits, as in 52:54:00:12:34:56")
    if int(mac[:2], 16) & 1:
        raise ValueError(f"{_short(value)} is a multicast address: the second digit of the first pair must be even")
    return mac


def read_network(value: t.Any) -> str:
    if not re.fullmatch(NAME_PATTERN, read_text(value)):
        raise ValueError(f"{_short(value)} must be the name of a network: {NAME_RULE}")
    return str(value)


def read_addresses(value: t.Any) -> list[str]:
    """One address, or one of each family, as the kernel writes them, IPv4 first."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not 1 <= len(listed) <= ADDRESSES_MAX:
        raise ValueError("must be an IP address, or a list of an IPv4 and an IPv6 address")
    found = [_address(entry) for entry in listed]
    if len({":" in address for address in found}) < len(found):
        raise ValueError("has two addresses of the same family. Give one IPv4 and one IPv6 address")
    return sorted(found, key=lambda address: ":" in address)


def _address(value: t.Any) -> str:
    family = socket.AF_INET6 if ":" in read_text(value) else socket.AF_INET
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, value))
    except OSError as exc:
        raise ValueError(f"{_short(value)} must be an IP address without a prefix, as in 10.80.0.7") from exc


def read_whole(value: t.Any) -> t.Any:
    # bool is an int in Python, and YAML's "yes" a bool: never take it for 1.
    if isinstance(value, bool):
        raise ValueError("must be a whole number")
    if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,20}\s*", value):
        return int(value)
    if isinstance(value, int):
        return value
    raise ValueError(f"must be a whole number, not {_short(value)}")


_TRUE = ("true", "yes", "on", "1", "y", "t")
_FALSE = ("false", "no", "off", "0", "n", "f")


def read_flag(value: t.Any) -> t.Any:
    # Ansible's own words for booleans.
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, (str, int)) else ""
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"must be true or false, not {_short(value)}")
