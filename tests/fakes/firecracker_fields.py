# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bodies that Firecracker 1.16.1 understands: fields, types and defaults as its code has them, refused in the words of its JSON library."""

from __future__ import annotations

import copy
import re
import typing as t

Tree = dict[str, t.Any]
Kind = t.Union[type, tuple[str, ...], Tree, list[type], t.Callable[[t.Any], bool]]

REQUIRED = object()
ANY = dict
_BUCKET: Tree = {"size": (int, REQUIRED), "one_time_burst": (int, None), "refill_time": (int, REQUIRED)}
_LIMITER: Tree = {"bandwidth": (_BUCKET, None), "ops": (_BUCKET, None)}
_TEMPLATES = ("C3", "T2", "T2S", "T2CL", "T2A", "V1N1", "None")


def _is_mac(value: t.Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", value) is not None


# part -> field -> (kind, default): a type, the words of an enumeration, a nested table, a list of a type, a predicate.
FIELDS: dict[str, Tree] = {
    "boot-source": {"kernel_image_path": (str, REQUIRED), "initrd_path": (str, None), "boot_args": (str, None)},
    "machine-config": {
        "vcpu_count": (int, REQUIRED),
        "mem_size_mib": (int, REQUIRED),
        "smt": (bool, False),
        "cpu_template": (_TEMPLATES, None),
        "track_dirty_pages": (bool, False),
        "huge_pages": (("None", "2M"), "None"),
    },
    "drives": {
        "drive_id": (str, REQUIRED),
        "partuuid": (str, None),
        "is_root_device": (bool, REQUIRED),
        "cache_type": (("Unsafe", "Writeback"), "Unsafe"),
        "is_read_only": (bool, None),
        "path_on_host": (str, None),
        "rate_limiter": (_LIMITER, None),
        "io_engine": (("Sync", "Async"), None),
        "socket": (str, None),
    },
    "network-interfaces": {
        "iface_id": (str, REQUIRED),
        "host_dev_name": (str, REQUIRED),
        "guest_mac": (_is_mac, None),
        "mtu": (int, None),
        "rx_rate_limiter": (_LIMITER, None),
        "tx_rate_limiter": (_LIMITER, None),
    },
    "vsock": {"guest_cid": (int, REQUIRED), "uds_path": (str, REQUIRED), "vsock_id": (str, None)},
    "balloon": {
        "amount_mib": (int, REQUIRED),
        "deflate_on_oom": (bool, REQUIRED),
        "stats_polling_interval_s": (int, 0),
        "free_page_hinting": (bool, False),
        "free_page_reporting": (bool, False),
    },
    "mmds-config": {
        "version": (("V1", "V2"), "V1"),
        "network_interfaces": ([str], REQUIRED),
        "ipv4_address": (str, None),
        "imds_compat": (bool, False),
    },
    "entropy": {"rate_limiter": (_LIMITER, None)},
    "memory-hotplug": {"total_size_mib": (int, REQUIRED), "block_size_mib": (int, 2), "slot_size_mib": (int, 128)},
    "serial": {"serial_out_path": (str, None), "rate_limiter": (_BUCKET, None)},
    "logger": {"log_path": (str, None), "level": (str, None), "show_level": (bool, None), "show_log_origin": (bool, None), "module": (str, None)},
    "metrics": {"metrics_path": (str, REQUIRED)},
    "cpu-config": {
        key: ([ANY if key != "kvm_capabilities" else str], [])
        for key in ("kvm_capabilities", "cpuid_modifiers", "msr_modifiers", "reg_modifiers", "vcpu_features")
    },
    "action": {"action_type": (("FlushMetrics", "InstanceStart", "SendCtrlAltDel"), REQUIRED)},
    "vm": {"state": (("Paused", "Resumed"), REQUIRED)},
}


class _Unfit(Exception):
    pass


def deserialize(part: str, body: t.Any, fault: type[Exception]) -> Tree:
    """The body with its defaults filled in; C(fault) with serde's words when it does not fit."""
    try:
        return _fit(FIELDS[part], body, unknown_allowed=part == "metrics")
    except _Unfit as exc:
        raise fault(f"An error occurred when deserializing the json body of a request: {exc} at line 1 column 1.") from exc


def _fit(fields: Tree, body: t.Any, unknown_allowed: bool = False) -> Tree:
    if not isinstance(body, dict):
        raise _Unfit(f"invalid type: {_named(body)}, expected struct")
    for key in body:
        # A token bucket is the one that does not mind.
        if key not in fields and not unknown_allowed and fields is not _BUCKET:
            raise _Unfit(f"unknown field `{key}`, expected one of {', '.join(f'`{name}`' for name in fields)}")
    filled = {}
    for key, (kind, default) in fields.items():
        if body.get(key) is None:
            if default is REQUIRED:
                raise _Unfit(f"missing field `{key}`" if key not in body else "invalid type: null")
            filled[key] = copy.copy(default)
        else:
            filled[key] = _value(kind, body[key])
    return filled


def _value(kind: t.Any, value: t.Any) -> t.Any:
    if isinstance(kind, dict):
        return _fit(kind, value)
    if isinstance(kind, tuple):
        if value not in kind:
            raise _Unfit(f"unknown variant `{value}`, expected {' or '.join(f'`{word}`' for word in kind)}")
        return value
    if isinstance(kind, list):
        if not isinstance(value, list):
            raise _Unfit(f"invalid type: {_named(value)}, expected a sequence")
        return [_value(kind[0], entry) for entry in value]
    if kind is _is_mac:
        if not _is_mac(value):
            raise _Unfit("The provided MAC address is invalid.")
        return value.lower()
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool) or (kind is int and value < 0):
        raise _Unfit(f"invalid type: {_named(value)}, expected {kind.__name__}")
    return value


def _named(value: t.Any) -> str:
    names = {bool: "boolean", int: "integer", str: "string", list: "sequence", dict: "map", type(None): "null"}
    return f"{names.get(type(value), 'value')} {value!r}"
