# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the controller: C(wanted.py PLUGINS OPTIONS) prints what a host is to have, in the form that state.py compares and sets.

OPTIONS: JSON, C({name, units, console_max, sysctls, ksm, smt, hugepages, modules, udev}), for the role vmcp_hardening also
C({quiet_console, no_userfaultfd, kvm_timer, private_devices}); what is left out, or empty, is nobody's wish. C(name): what the
files are called. systemd's units come from where the modules have them, so that both write the same.
"""

from __future__ import annotations

import json
import sys
import typing as t

HEAD = "# Written by unkey.vmcp; changes are overwritten.\n"
KSM = "/sys/kernel/mm/ksm/run"
SMT = "/sys/devices/system/cpu/smt/control"
# Modules by the device that shows that they are there, also where they are built in.
DEVICES = {"kvm": "/dev/kvm", "tun": "/dev/net/tun", "vhost_net": "/dev/vhost-net", "vhost_vsock": "/dev/vhost-vsock"}
# The group of the distributions; whoever is in it may use KVM. VMs get it from their launch files.
UDEV = 'KERNEL=="kvm", GROUP="kvm", MODE="0660"\nKERNEL=="vhost-vsock", GROUP="kvm", MODE="0660"\nKERNEL=="vhost-net", GROUP="kvm", MODE="0660"\n'
PRIVATE = UDEV + 'KERNEL=="tun", GROUP="kvm", MODE="0660"\nKERNEL=="userfaultfd", GROUP="kvm", MODE="0660"\n'
TIMER = "/sys/module/kvm/parameters/min_timer_period_us"
Tree = dict[str, t.Any]


def units(console_max: t.Any) -> list[Tree]:
    from module_utils.host.host_json import CONSOLE_MAX_BYTES
    from module_utils.host.supervisors import systemd
    from module_utils.model.units import parse_size

    found: list[Tree] = []
    for path, (text, mode) in systemd.files(parse_size(console_max) if console_max else CONSOLE_MAX_BYTES).items():
        found.append({"path": path, "text": text, "mode": f"{mode:04o}"})
    return found + [{"path": path, "link": target} for path, target in systemd.links().items()]


def is_on(value: t.Any) -> bool | None:
    """None: nobody's wish."""
    if value is None or value == "":
        return None
    return str(value).lower() in ("true", "yes", "on", "1")


def in_sys(options: Tree) -> list[Tree]:
    """Settings below /sys, in the order in which they are made."""
    from module_utils.model.units import parse_size

    found: list[Tree] = []
    if (ksm := is_on(options.get("ksm"))) is not None:
        # 2 would also give back what is merged now, which 0 leaves merged; it reads back as 2, and as 0 after the next boot.
        found.append({"path": KSM, "value": "1"} if ksm else {"path": KSM, "value": "2", "means": ["0"]})
    if (smt := is_on(options.get("smt"))) is not None:
        means = [] if smt else ["forceoff", "notsupported", "notimplemented"]
        found.append({"path": SMT, "value": "on" if smt else "off", "means": means})
    if is_on(options.get("kvm_timer")):
        from module_utils.host.hardening import MIN_TIMER_PERIOD_US

        found.append({"path": TIMER, "value": str(MIN_TIMER_PERIOD_US), "optional": True})
    for size, count in (options.get("hugepages") or {}).items():
        found.append({"path": f"/sys/kernel/mm/hugepages/hugepages-{parse_size(size) >> 10}kB/nr_hugepages", "value": str(int(count))})
    return found


def text_file(path: str, lines: t.Iterable[str]) -> Tree:
    """Without lines the file is not to be there."""
    body = "".join(f"{line}\n" for line in lines)
    return {"path": path, "text": HEAD + body, "mode": "0644"} if body else {"path": path}


def hardening_sysctls(options: Tree) -> Tree:
    found = {}
    if is_on(options.get("quiet_console")):
        # What is printed; the default of a message without a level; the least that may be set; what quiet stands for.
        found["kernel.printk"] = "1 4 1 7"
    if is_on(options.get("no_userfaultfd")):
        found["vm.unprivileged_userfaultfd"] = 0
    return found


def wanted(options: Tree) -> Tree:
    name, modules = options["name"], options.get("modules") or []
    sysctls = {**(options.get("sysctls") or {}), **hardening_sysctls(options)}
    sys_settings = in_sys(options)
    files = [
        text_file(f"/etc/sysctl.d/90-{name}.conf", (f"{key} = {value}" for key, value in sysctls.items())),
        text_file(f"/etc/tmpfiles.d/{name}.conf", (f"w {setting['path']} - - - - {setting['value']}" for setting in sys_settings)),
    ]
    if "modules" in options:
        files.append(text_file(f"/etc/modules-load.d/{name}.conf", modules))
    if "udev" in options:
        # After the distribution's own rules, and before those of an administrator.
        files.append(text_file(f"/etc/udev/rules.d/80-{name}.rules", UDEV.splitlines() if is_on(options["udev"]) else ()))
    if "private_devices" in options:
        files.append(text_file(f"/etc/udev/rules.d/81-{name}.rules", PRIVATE.splitlines() if is_on(options["private_devices"]) else ()))
    if "kvm_timer" in options:
        # tmpfiles may come before the module is loaded.
        timer = [setting["value"] for setting in sys_settings if setting["path"] == TIMER]
        files.append(text_file(f"/etc/modprobe.d/{name}.conf", (f"options kvm min_timer_period_us={value}" for value in timer)))
    if options.get("units"):
        files += units(options.get("console_max"))
    in_proc = [{"path": f"/proc/sys/{key.replace('.', '/')}", "value": str(value)} for key, value in sysctls.items()]
    return {"files": files, "settings": in_proc + sys_settings, "modules": [{"name": module, "device": DEVICES.get(module, "")} for module in modules]}


def main(plugins: str, options: str) -> None:
    sys.dont_write_bytecode = True
    sys.path.insert(0, plugins)
    try:
        print(json.dumps(wanted(json.loads(options))))
    except ValueError as exc:
        sys.exit(str(exc))


if __name__ == "__main__":
    main(*sys.argv[1:])
