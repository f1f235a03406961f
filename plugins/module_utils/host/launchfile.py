# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a VM's launch file: the shell file that starts, boots, stops and clears up after its VMM, without Python. Pure, standard library only.

The supervisors call it with a verb: C(run) (prepare, drop privileges, become the VMM: the shell's pid is the VMM's), C(boot) (wait for the
socket, run C(after_start)), C(stop) (host shutdown, C(systemctl stop)), C(ended) (record the exit, clear up, restart by policy), C(clear) (only
clear up), C(trim) (bound the logs).
"""

from __future__ import annotations

import os
import shlex
import typing as t

from ..backends.port import FileUse, Isolation, LaunchSpec, Paths, TapUse
from ..errors import InvalidArgument, Violation
from .events import KEEP_LINES, MAX_BYTES
from .host_json import CONSOLE_MAX_BYTES
from .launch_body import BODY

if t.TYPE_CHECKING:
    from .layout import VmLayout

FORMAT = 1
START_TIMEOUT_S = 60
MAX_RESTARTS_PER_HOUR = 10
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def sandbox_paths(layout: VmLayout, files: t.Sequence[FileUse], isolation: Isolation, *, jailed: bool) -> Paths:
    """What the VMM sees: C(/files/ALIAS) in a jail, C(files/ALIAS) (relative to its working directory) with a uid of its own, else the real paths."""
    if isolation.uid is None:
        return Paths(files={use.alias: os.path.join(layout.data, use.path) for use in files}, sockets="vmm")
    prefix = "/files/" if jailed else "files/"
    return Paths(files={use.alias: prefix + use.alias for use in files}, sockets="vmm", documents=prefix)


def render(
    layout: VmLayout,
    spec: LaunchSpec,
    isolation: Isolation,
    *,
    restart_policy: t.Mapping[str, t.Any],
    shutdown_timeout_s: int,
    console_max_bytes: int = CONSOLE_MAX_BYTES,
    console_path: str | None = None,
    start_timeout_s: int = START_TIMEOUT_S,
) -> str:
    """The text of C(VmLayout.launch).

    C(restart_policy): C(on_reboot) (restart), C(on_crash) (no), C(max_per_hour) (10). C(console_path): the user's file for
    the console, appended to and never rotated; None for the VM's own. InvalidArgument for a word that no shell or file of ours
    can hold (NUL, line break), and for a path in a directory where a VM's uid could have put a link."""
    _refuse_newlines(spec, console_path)
    if isolation.uid is not None:
        _refuse_places_of_vms(layout, spec, console_path)
    jailer = spec.jailer if isolation.uid is not None and spec.jailer else None
    variables = {
        "name": layout.name,
        "dir": layout.dir,
        "run": layout.run,
        "run_root": layout.run.rpartition("/")[0],
        "binary": spec.argv[0],
        "uid": "" if isolation.uid is None else str(isolation.uid),
        "jailer": jailer or "",
        "console": console_path or layout.console_log,
        "wait_socket": spec.wait_socket,
        "start_timeout_s": str(start_timeout_s),
        "grace_s": str(shutdown_timeout_s),
        "on_reboot": str(restart_policy.get("on_reboot") or "restart"),
        "on_crash": str(restart_policy.get("on_crash") or "no"),
        "max_per_hour": str(_first_set(restart_policy.get("max_per_hour"), MAX_RESTARTS_PER_HOUR)),
        "exit_zero_is_reboot": "yes" if spec.exit_zero_is_reboot else "no",
        "console_max_bytes": str(console_max_bytes),
        "events_max_bytes": str(MAX_BYTES),
        "events_keep_lines": str(KEEP_LINES),
    }
    parts = [
        "#!/bin/sh",
        f"# Launch file of VM {layout.name}, format {FORMAT}, written by unkey.vmcp; changes are overwritten. Verbs: see the end.",
        "set -euf",
        "umask 077",
        f"PATH={_PATH} LC_ALL=C",
        "export PATH LC_ALL",
        *(f"{key}={shlex.quote(value)}" for key, value in variables.items()),
        "",
        _function("vmm_taps", [_tap_line(tap) for tap in spec.taps if tap.ours]),
        _function("vmm_files", _file_lines(layout, spec)),
        _function("vmm_seeds", [shlex.join(["seed", os.path.join(layout.data, use.path), use.seed]) for use in spec.files if use.seed]),
        _function("vmm_devices", [f"device {shlex.quote(path)}" for path in spec.devices]),
        _function("after_start", [f"after {shlex.join(command)}" for command in spec.after_start]),
        _function("can_ask_to_stop", [] if spec.stop else ["false"]),
        _function("ask_to_stop", _stop_lines(spec, isolation)),
        _function("exec_vmm", _exec_lines(layout, spec, isolation, jailer)),
    ]
    return "\n".join(parts) + BODY


def _first_set(value: t.Any, default: t.Any) -> t.Any:
    return default if value is None else value


def _function(name: str, lines: t.Sequence[str]) -> str:
    return "\n".join([f"{name}() {{", *(f"    {line}" for line in (lines or [":"])), "}"])


def _tap_line(tap: TapUse) -> str:
    words = [tap.name, tap.bridge or "", "" if tap.mtu is None else str(tap.mtu)]
    if tap.queue_pairs > 1:
        words.append("multi_queue")
    if tap.vnet_headers:
        words.append("vnet_hdr")
    return f"tap {shlex.join(words)}"


def _file_lines(layout: VmLayout, spec: LaunchSpec) -> list[str]:
    lines = []
    for use in spec.files:
        below = _below(layout.data, os.path.join(layout.data, use.path))
        if below is None and not use.path.startswith("/"):
            raise InvalidArgument.of([Violation("config", f"{use.path!r} is not below the VM's data directory. Give an absolute path, or one without '..'.")])
        if below is None:
            lines.append(shlex.join(["expose", use.alias, use.path, "rw" if use.writable else "ro"]))
        else:
            lines.append(shlex.join(["own", use.alias, below, use.seed or ""]))
    lines.extend(shlex.join(["document", alias, name]) for alias, name in sorted(spec.document_uses.items()))
    if spec.vmm_log_in_sandbox:
        lines.append(shlex.join(["log_file", spec.vmm_log_in_sandbox.rpartition("/")[2]]))
    return lines


def _stop_lines(spec: LaunchSpec, isolation: Isolation) -> list[str]:
    """As the VM's uid where it has one: the directory of the socket is its own, and by the time it is to stop it may have put a link there that
    leads root to the socket of somebody else."""
    if not spec.stop:
        return []
    return [f"{'' if isolation.uid is None else 'as_vm '}timeout -k 1 5 {shlex.join(spec.stop)}"]


def _below(directory: str, path: str) -> str | None:
    """The rest of C(path) below C(directory); None when it is elsewhere. A path that climbs is read by what it says, not by where it begins."""
    normal = os.path.normpath(path)
    return normal[len(directory) + 1 :] if normal.startswith(directory + "/") else None


def _exec_lines(layout: VmLayout, spec: LaunchSpec, isolation: Isolation, jailer: str | None) -> list[str]:
    output = "> /dev/null" if spec.stdout_dropped else '>> "$console"' if spec.stdout_is_console else ""
    clean = shlex.join(["env", "-i", f"PATH={_PATH}", *(f"{key}={value}" for key, value in sorted(spec.environment.items()))])
    if isolation.uid is None:
        return [f"exec {clean} {shlex.join(spec.argv)} {output}".rstrip()]
    uid = str(isolation.uid)
    if jailer:
        words = [jailer, "--id", layout.name, "--exec-file", spec.argv[0], "--uid", uid, "--gid", uid, "--chroot-base-dir", layout.jail]
        return [f"exec {clean} {shlex.join([*words, '--', *spec.argv[1:]])} {output}".rstrip()]
    drop = f"setpriv --reuid {uid} --regid {uid} $groups_option --no-new-privs --inh-caps=-all --bounding-set=-all --"
    return [
        'if [ -n "$groups" ]; then groups_option="--groups $groups"; else groups_option=--clear-groups; fi',
        f"exec {clean} {drop} {shlex.join(spec.argv)} {output}".rstrip(),
    ]


def _refuse_newlines(spec: LaunchSpec, console_path: str | None) -> None:
    """Quoted they would be harmless to the shell, but the records of granted access and the logs are read line by line."""
    words = [
        *spec.argv,
        *(word for command in spec.after_start for word in command),
        *(word for use in spec.files for word in (use.alias, use.path)),
        *(word for tap in spec.taps for word in (tap.name, tap.bridge or "")),
        *spec.devices,
        *(use.seed or "" for use in spec.files),
        console_path or "",
    ]
    bad = [word for word in words if any(c in word for c in "\n\r\0")]
    if bad:
        raise InvalidArgument.of([Violation("config", f"{word!r} contains a line break or NUL. Remove it.") for word in bad])


def _refuse_places_of_vms(layout: VmLayout, spec: LaunchSpec, console_path: str | None) -> None:
    """Root opens these, and follows links on the way: below the directories of VMs, a VM may have put one that leads anywhere. Its own data is
    another matter: the VM's uid opens that itself (C(own))."""
    vms, runs = (os.path.dirname(directory) for directory in (layout.dir, layout.run))
    found = []
    if console_path is not None and any(_below(place, console_path) for place in (vms, runs)):
        found.append(
            Violation("config.console.path", f"{console_path} lies in a directory of a VM, where root writes to no file. Leave it out, or name another one.")
        )
    for use in spec.files:
        if use.path.startswith("/") and _below(vms, use.path) and not _below(layout.data, use.path):
            found.append(Violation("config", f"{use.path} lies in a directory of a VM, whose files root gives to no other. Move the file elsewhere."))
    if found:
        raise InvalidArgument.of(found)
