# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a VM's launch file: the shell file that starts, boots, stops and clears up after its VMM, without Python. Pure, standard library only.

The supervisors call it with a verb: C(inside) (in a mount namespace of its own: prepare, drop privileges, become the VMM, whose pid is the
shell's), C(supervise) (start it as a child, and see to its end), C(stop) (host shutdown, C(systemctl stop)), C(ended) (record the exit, clear up,
restart by policy), C(clear) (only clear up), C(settle) (give names to what follows it, see C(following), as every start does first). C(run) is
C(inside) with the namespace made first, for a person who looks for a fault.
"""

from __future__ import annotations

import os
import shlex
import typing as t

from ..backends.port import FileUse, Isolation, LaunchSpec, Paths
from ..errors import InvalidArgument, Violation
from .events import KEEP_LINES, MAX_BYTES
from .jail_mounts import description
from .launch_body import BODY, HEAD
from .launch_tap_lines import tap_lines

if t.TYPE_CHECKING:
    from .layout import VmLayout

FORMAT = 1
START_TIMEOUT_S = 60
MAX_RESTARTS_PER_HOUR = 5
_NOT_FOR_THE_VMM = ("INVOCATION_ID", "JOURNAL_STREAM", "NOTIFY_SOCKET", "SYSTEMD_EXEC_PID", "LC_ALL")
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
    shutdown_timeout_s: int,
    console_path: str | None = None,
    start_timeout_s: int = START_TIMEOUT_S,
) -> str:
    """The text of C(VmLayout.launch).

    C(console_path): the user's file for the console, appended to and never rotated; None for the VM's own. InvalidArgument for a word that no
    shell or file of ours can hold (NUL, line break), and for a path in a directory where a VM's uid could have put a link."""
    _refuse_newlines(spec, console_path)
    if isolation.uid is not None:
        _refuse_places_of_vms(layout, spec, console_path)
    jailer = spec.jailer if isolation.uid is not None and spec.jailer else None
    jail_root = f"jail/{os.path.basename(spec.argv[0])}/{layout.name}/root" if jailer else ""
    variables = {
        "follows": "",  # see C(following)
        "beside": " ".join(("policy", *sorted(spec.documents))),
        "name": layout.name,
        "dir": layout.dir,
        "run": layout.run,
        "run_root": layout.run.rpartition("/")[0],
        "binary": spec.argv[0],
        "dir_word": table_word(layout.dir),
        "run_word": table_word(layout.run),
        "jail_root": jail_root,
        "jail_root_word": table_word(jail_root),
        "uid": "" if isolation.uid is None else str(isolation.uid),
        "devices": " ".join(spec.devices),
        "own_data": "/+data" if any(_below(layout.data, os.path.join(layout.data, use.path)) for use in spec.files) else "",
        "jailer": jailer or "",
        "console": console_path or layout.console_log,
        "wait_socket": spec.wait_socket,
        "start_timeout_s": str(start_timeout_s),
        "grace_s": str(shutdown_timeout_s),
        "exit_zero_is_reboot": "yes" if spec.exit_zero_is_reboot else "no",
        "events_max_bytes": str(MAX_BYTES),
        "events_keep_lines": str(KEEP_LINES),
    }
    parts = [
        "#!/bin/sh",
        f"# Launch file of VM {layout.name}, format {FORMAT}, written by unkey.vmcp; changes are overwritten. Verbs: see the end.",
        *(description(layout, spec, isolation, jail_root) if jailer else ()),
        "set -euf",
        "umask 077",
        f"PATH={_PATH} LC_ALL=C",
        "export PATH LC_ALL",
        *(f"{key}={shlex.quote(value)}" for key, value in variables.items()),
        HEAD,
        _function("vmm_taps", tap_lines(spec.taps)),
        _function("vmm_files", _file_lines(layout, spec)),
        _function("vmm_access", _access_lines(layout, spec)),
        _function("vmm_own_files", _own_lines(layout, spec)),
        _function("vmm_seeds", [shlex.join(["seed", os.path.join(layout.data, use.path), use.seed]) for use in spec.files if use.seed]),
        _function("vmm_devices", _device_lines(spec)),
        _function("before_start", [shlex.join(command) for command in spec.before_start]),
        _function("has_after_start", [] if spec.after_start else ["false"]),
        _function("after_start", [f"after {shlex.join(command)}" for command in spec.after_start]),
        _function("can_ask_to_stop", [] if spec.stop else ["false"]),
        _function("ask_to_stop", _stop_lines(spec, isolation)),
        _function("exec_vmm", _exec_lines(layout, spec, isolation, jailer)),
    ]
    return "\n".join(parts) + BODY


def render_policy(restart_policy: t.Mapping[str, t.Any]) -> str:
    """The text of C(VmLayout.policy), a file of its own: it is read when a VM ends, and may change while it runs.

    C(restart_policy): C(on_reboot) (restart), C(on_crash) (no), C(max_per_hour) (5)."""
    limit = restart_policy.get("max_per_hour")
    variables = {
        "on_reboot": restart_policy.get("on_reboot") or "restart",
        "on_crash": restart_policy.get("on_crash") or "no",
        "max_per_hour": MAX_RESTARTS_PER_HOUR if limit is None else limit,
    }
    return "".join(f"{key}={shlex.quote(str(value))}\n" for key, value in variables.items())


def table_word(path: str) -> str:
    """A path as one word of a table of file systems (fstab(5))."""
    return "".join(f"\\{ord(c):03o}" if c in " \t\\" else c for c in path)


def _function(name: str, lines: t.Sequence[str]) -> str:
    return "\n".join([f"{name}() {{", *(f"    {line}" for line in (lines or [":"])), "}"])


def _file_lines(layout: VmLayout, spec: LaunchSpec) -> list[str]:
    lines = []
    for use in spec.files:
        below = _below(layout.data, os.path.join(layout.data, use.path))
        if below is None and not use.path.startswith("/"):
            raise InvalidArgument.of([Violation("config", f"{use.path!r} is not below the VM's data directory. Give an absolute path, or one without '..'.")])
        if below is None:
            lines.append(shlex.join(["expose", use.alias, use.path, table_word(use.path), "rw" if use.writable else "ro"]))
        else:
            lines.append(shlex.join(["own", use.alias, below]))
    lines.extend(shlex.join(["document", alias, name]) for alias, name in sorted(spec.document_uses.items()))
    if spec.vmm_log_in_sandbox:
        lines.append(shlex.join(["log_file", _log_alias(spec)]))
    return lines


def _log_alias(spec: LaunchSpec) -> str:
    return str(spec.vmm_log_in_sandbox).rpartition("/")[2]


def _access_lines(layout: VmLayout, spec: LaunchSpec) -> list[str]:
    """One look at all that was bound: most of it the VM's uid may open as it is, and then nothing has to be run for it."""
    bound = [(use.alias, use.path, "rw" if use.writable else "ro") for use in spec.files if _below(layout.data, os.path.join(layout.data, use.path)) is None]
    bound += [(alias, layout.document(name), "ro") for alias, name in sorted(spec.document_uses.items())]
    aliases = [alias for alias, _path, _rights in bound] + ([_log_alias(spec)] if spec.vmm_log_in_sandbox else [])
    if not aliases:
        return []
    lines = [_look("%a %u %g", [f'"$files"/{shlex.quote(alias)}' for alias in aliases])]
    for number, (alias, path, rights) in enumerate(bound):
        lines.append(f"access {shlex.join([alias, path, rights])} {_fields(number, 3)}")
    if spec.vmm_log_in_sandbox:
        lines.append(f'log_access "${{{3 * len(bound) + 2}}}"')
    return lines


def _look(form: str, words: t.Sequence[str]) -> str:
    return f"set -- $(stat -L -c '{form}' -- {' '.join(words)})"


def _fields(number: int, count: int) -> str:
    """The positional parameters of the C(number)th file, C(count) of each."""
    return " ".join(f'"${{{number * count + field + 1}}}"' for field in range(count))


def _own_lines(layout: VmLayout, spec: LaunchSpec) -> list[str]:
    seeded = [(_below(layout.data, os.path.join(layout.data, use.path)), use.seed) for use in spec.files if use.seed]
    return [shlex.join(["own_seed", below, seed]) for below, seed in seeded if below]


def _device_lines(spec: LaunchSpec) -> list[str]:
    if not spec.devices:
        return []
    return [
        *(f"need_device {shlex.quote(path)}" for path in spec.devices),
        _look("%a %g 0x%t 0x%T", [shlex.quote(path) for path in spec.devices]),
        *(f"device {shlex.join([path, table_word(path)])} {_fields(number, 4)}" for number, path in enumerate(spec.devices)),
    ]


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
    """Only what is exported reaches the VMM; what a service manager sets is taken out."""
    output = "> /dev/null " if spec.stdout_dropped else '>> "$console" ' if spec.stdout_is_console else ""
    lines = [f"unset {' '.join(_NOT_FOR_THE_VMM)}", *(f"export {key}={shlex.quote(value)}" for key, value in sorted(spec.environment.items()))]
    if isolation.uid is None:
        return [*lines, "umask 0177", f"exec {shlex.join(spec.argv)} {output}9>&-"]
    uid = str(isolation.uid)
    if jailer:
        # It makes directories under the umask that it is given.
        words = [jailer, "--id", layout.name, "--exec-file", spec.argv[0], "--uid", uid, "--gid", uid, "--chroot-base-dir", layout.jail]
        return [*lines, f"exec {shlex.join([*words, '--', *spec.argv[1:]])} {output}9>&-"]
    drop = f"setpriv --reuid {uid} --regid {uid} $groups_option --no-new-privs --inh-caps=-all --bounding-set=-all --"
    return [
        *lines,
        "umask 0177",
        'if [ -n "$groups" ]; then groups_option="--groups $groups"; else groups_option=--clear-groups; fi',
        f"exec {drop} {shlex.join(spec.argv)} {output}9>&-",
    ]


def _refuse_newlines(spec: LaunchSpec, console_path: str | None) -> None:
    """Quoted they would be harmless to the shell, but the records of granted access and the logs are read line by line."""
    words = [
        *spec.argv,
        *(word for command in (*spec.before_start, *spec.after_start) for word in command),
        *(word for use in spec.files for word in (use.alias, use.path)),
        *(word for tap in spec.taps for word in (tap.name, tap.bridge or "", tap.direct.parent if tap.direct else "")),
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
