# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""First-boot data: what a task gives as C(cloud_init), and the documents that cloud-init's NoCloud source reads. Standard library only, pure.

The values may hold secrets: no message shows one. Dictionaries become JSON, which is YAML too."""

from __future__ import annotations

import collections.abc
import json
import re
import typing as t

from ..errors import Violation
from .readers import read_text

DATASOURCES = ("nocloud", "mmds")
KEYS = ("user_data", "meta_data", "network_config", "ssh_keys", "hostname", "datasource")
# A name as in RFC 1123, with domains.
_HOSTNAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")
_SSH_KEY = re.compile(r"(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/=]+( .*)?")
BYTES_MAX = 1 << 20
# The id under which a VM has the disk; no entry of the user's has a '+' in its id.
SEED_FILE = "seed.iso"


def violations_of(value: t.Any, is_json: t.Callable[[t.Any], bool]) -> list[Violation]:
    """All that is wrong. C(is_json): whether a value can stand in a JSON document."""
    if value is None:
        return []
    if not isinstance(value, collections.abc.Mapping):
        return [Violation("cloud_init", f"must be a dictionary with some of {', '.join(KEYS)}.")]
    found = [Violation("cloud_init", f"has a key that is none of {', '.join(KEYS)}.")] if set(value) - set(KEYS) else []
    if not found and not any(value.get(key) is not None for key in KEYS if key != "datasource"):
        found.append(Violation("cloud_init", f"gives no data. Give some of {', '.join(KEYS[:-1])}, or leave it out."))
    for key in ("user_data", "meta_data", "network_config"):
        given = value.get(key)
        if given is not None and not _is_document(given, is_json):
            found.append(Violation(f"cloud_init.{key}", f"must be text, or a dictionary of JSON values, of at most {BYTES_MAX >> 10} KiB."))
    keys = value.get("ssh_keys")
    if keys is not None and not (isinstance(keys, collections.abc.Sequence) and not isinstance(keys, str) and all(_is_key(key) for key in keys)):
        found.append(Violation("cloud_init.ssh_keys", "must be a list of public keys as in authorized_keys, a line each: ssh-ed25519 AAAA… comment."))
    hostname = value.get("hostname")
    if hostname is not None and not (isinstance(hostname, str) and _HOSTNAME.fullmatch(hostname)):
        found.append(Violation("cloud_init.hostname", "must be a host name: letters, digits and '-', in parts that are joined by '.'."))
    if isinstance(value.get("meta_data"), str):
        found += [
            Violation(f"cloud_init.{key}", "goes into the meta data, which are given as text. Give meta_data as a dictionary, or put it in there yourself.")
            for key in ("ssh_keys", "hostname")
            if value.get(key) is not None
        ]
    if value.get("datasource") not in (None, *DATASOURCES):
        found.append(Violation("cloud_init.datasource", f"must be one of {', '.join(DATASOURCES)}."))
    return found


def _is_document(value: t.Any, is_json: t.Callable[[t.Any], bool]) -> bool:
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace")) <= BYTES_MAX and is_json(value)
    return isinstance(value, collections.abc.Mapping) and is_json(value) and len(json.dumps(value)) <= BYTES_MAX


def _is_key(value: t.Any) -> bool:
    try:
        return bool(_SSH_KEY.fullmatch(read_text(value)))
    except ValueError:
        return False


def datasource_of(given: t.Mapping[str, t.Any]) -> str:
    return str(given.get("datasource") or "nocloud")


def documents(given: t.Mapping[str, t.Any], name: str, digest: str) -> dict[str, str]:
    """File name to text. C(digest): of the data: other data are another instance, on which cloud-init does its work again."""
    files = {"user-data": _text(given.get("user_data"), "#cloud-config\n"), "meta-data": _meta_data(given, name, digest)}
    if given.get("network_config") is not None:
        files["network-config"] = _text(given["network_config"], "")
    return files


def _meta_data(given: t.Mapping[str, t.Any], name: str, digest: str) -> str:
    own = given.get("meta_data")
    if isinstance(own, str):
        return own
    return json.dumps(meta_data(given, name, digest), indent=1, ensure_ascii=False) + "\n"


def meta_data(given: t.Mapping[str, t.Any], name: str, digest: str) -> dict[str, t.Any]:
    own = given.get("meta_data")
    made: dict[str, t.Any] = {"instance-id": f"{name}-{digest[:12]}", "local-hostname": given.get("hostname") or name}
    if given.get("ssh_keys"):
        made["public-keys"] = list(given["ssh_keys"])
    return {**made, **(own if isinstance(own, collections.abc.Mapping) else {})}


def _text(value: t.Any, head: str) -> str:
    if value is None:
        return head
    if isinstance(value, str):
        return value
    return f"{head}{json.dumps(value, indent=1, ensure_ascii=False)}\n"


def for_mmds(given: t.Mapping[str, t.Any], name: str, digest: str) -> dict[str, t.Any]:
    """What Firecracker's metadata service is given: the tree in which cloud-init's EC2 source looks."""
    return {"latest": {"meta-data": meta_data(given, name, digest), "user-data": documents(given, name, digest)["user-data"]}}
