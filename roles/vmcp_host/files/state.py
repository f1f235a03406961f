# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the host, as root: compares it with what it is to be, in one go. Standard library only.

    state.py look WANTED    what differs
    state.py set  WANTED    brings the kernel's settings to their values

WANTED: JSON, C({files: [{path, text, mode} | {path, link} | {path}], settings: [{path, value, means, optional}], modules: [{name, device}]}). A file of
which only the path is given is not to be there. C(means): what the kernel may say instead of the value. C(optional): a setting that need not be there.
Answers in JSON; C(set) changes nothing that is right already.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import typing as t


def differs(wanted: dict[str, t.Any]) -> bool:
    path = wanted["path"]
    if wanted.get("link"):
        return not os.path.islink(path) or os.readlink(path) != wanted["link"]
    if wanted.get("text") is None:
        return os.path.lexists(path)
    try:
        status = os.lstat(path)
        with open(path, "rb") as stream:
            text = stream.read()
    except OSError:
        return True
    return not stat.S_ISREG(status.st_mode) or stat.S_IMODE(status.st_mode) != int(wanted["mode"], 8) or text != wanted["text"].encode()


def value_of(path: str) -> t.Optional[str]:
    """As the kernel says it, one blank between words. None: there is no such setting."""
    try:
        with open(path, encoding="utf-8") as stream:
            return " ".join(stream.read().split())
    except OSError:
        return None


def unsettled(setting: dict[str, t.Any]) -> bool:
    if setting.get("optional") and not os.path.exists(setting["path"]):
        return False
    return value_of(setting["path"]) not in {" ".join(str(setting["value"]).split()), *setting.get("means", [])}


def swaps() -> list[str]:
    try:
        with open("/proc/swaps", encoding="utf-8") as stream:
            return [line.split()[0] for line in stream.read().splitlines()[1:] if line.strip()]
    except OSError:
        return []


def look(wanted: dict[str, t.Any]) -> dict[str, t.Any]:
    files = [file for file in wanted.get("files", []) if differs(file)]
    directories = {os.path.dirname(file["path"]) for file in files if file.get("link") or file.get("text") is not None}
    return {
        "differ": [file["path"] for file in files],
        "directories": sorted(path for path in directories if not os.path.isdir(path)),
        "unsettled": [setting["path"] for setting in wanted.get("settings", []) if unsettled(setting)],
        "unloaded": [
            module["name"]
            for module in wanted.get("modules", [])
            if not os.path.exists(f"/sys/module/{module['name']}") and not os.path.exists(module.get("device") or "/nowhere")
        ],
        "swaps": swaps(),
        "systemd": os.path.isdir("/run/systemd/system"),
        "udev": os.path.exists("/run/udev/control"),
        "fstab_swaps": fstab_swaps(),
    }


def fstab_swaps() -> bool:
    try:
        with open("/etc/fstab", encoding="utf-8") as stream:
            return any(line.split()[2:3] == ["swap"] for line in stream if not line.lstrip().startswith("#"))
    except OSError:
        return False


def settle(wanted: dict[str, t.Any]) -> dict[str, t.Any]:
    """C({changed: [path], failed: [sentence]}). The kernel may take a value and do less: huge pages need memory in one piece."""
    changed, failed = [], []
    for setting in wanted.get("settings", []):
        if not unsettled(setting):
            continue
        path, value = setting["path"], str(setting["value"])
        before = value_of(path)
        try:
            with open(path, "w", encoding="utf-8") as stream:
                stream.write(value)
        except OSError as exc:
            failed.append(f"{path} cannot be set to {value} ({exc.strerror}); it is {before if before is not None else 'not there'}.")
            continue
        after = value_of(path)
        if after != before:
            changed.append(path)
        if unsettled(setting):
            failed.append(f"{path} was set to {value}, and the kernel says {after}.")
    return {"changed": changed, "failed": failed}


def main(verb: str, wanted: str) -> None:
    print(json.dumps({"look": look, "set": settle}[verb](json.loads(wanted))))


if __name__ == "__main__":
    main(*sys.argv[1:])
