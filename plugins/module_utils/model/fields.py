# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Field types of the configuration: pydantic's names for what C(readers) reads."""

from __future__ import annotations

import typing as t

from ..thirdparty_pydantic import BeforeValidator, WithJsonSchema
from .readers import (
    ADDRESSES_MAX,
    read_addresses,
    read_flag,
    read_host_path,
    read_identifier,
    read_mac,
    read_name,
    read_network,
    read_socket_path,
    read_tap,
    read_text,
    read_token,
    read_whole,
)
from .units import parse_disk_size, parse_size

_SIZE_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*[kKmMgGtTpP]?([iI]?[bB])?\s*$"}]}
_ADDRESSES_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": ADDRESSES_MAX}]}

Size = t.Annotated[int, BeforeValidator(parse_size), WithJsonSchema(_SIZE_SCHEMA)]
DiskSize = t.Annotated[int, BeforeValidator(parse_disk_size), WithJsonSchema(_SIZE_SCHEMA)]
Whole = t.Annotated[int, BeforeValidator(read_whole)]
Flag = t.Annotated[bool, BeforeValidator(read_flag)]
HostPath = t.Annotated[str, BeforeValidator(read_host_path)]
SocketPath = t.Annotated[str, BeforeValidator(read_socket_path)]
Name = t.Annotated[str, BeforeValidator(read_name)]
Identifier = t.Annotated[str, BeforeValidator(read_identifier)]
Token = t.Annotated[str, BeforeValidator(read_token)]
TapName = t.Annotated[str, BeforeValidator(read_tap)]
MacAddress = t.Annotated[str, BeforeValidator(read_mac)]
NetworkName = t.Annotated[str, BeforeValidator(read_network)]
Addresses = t.Annotated[list[str], BeforeValidator(read_addresses), WithJsonSchema(_ADDRESSES_SCHEMA)]
KernelArgs = t.Annotated[str, BeforeValidator(read_text)]
