# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is behind the API of the fake Cloud Hypervisor: the VM's configuration with the checks of its boot, and the states."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import pathlib
import typing as t

from .cloudhypervisor_fields import deserialize
from .cloudhypervisor_guest import Guest, Serial

Tree = dict[str, t.Any]
NO_VM = ("VM is not created", "VM config is missing")


class Refused(Exception):
    """The causes, outermost first, less the C(Error from API) that heads all of them."""

    def __init__(self, *causes: str) -> None:
        super().__init__(": ".join(causes))
        self.causes = ("Error from API", *causes)


class Panicked(Exception):
    """The VMM's thread died; the process ends with code 1."""


class Vm:
    """At most one VM. C(on_poweroff): the guest turned itself off."""

    def __init__(self, on_poweroff: t.Callable[[], None]) -> None:
        self._on_poweroff = on_poweroff
        self._config: Tree | None = None
        self._serial: Serial | None = None
        self._guest: Guest | None = None
        self._vsock: str | None = None
        self._state = "Created"
        # A boot that failed late leaves a VM that neither runs nor boots again until it is shut down.
        self._half_booted = False

    # --- calls ---------------------------------------------------------------------------------------------
    def info(self) -> Tree:
        if self._config is None:
            raise Refused("The VM info is not available", "VM is not created")
        config = copy.deepcopy(self._config)
        if self._serial and self._serial.path:
            config["serial"]["file"] = self._serial.path
        said = {"config": config, "state": self._state, "memory_actual_size": _memory_size(config)}
        if self._guest:
            said["device_tree"] = {name: {"id": name, "resources": [], "parent": None, "children": []} for name in sorted(_ids(config))}
        return said

    def counters(self) -> Tree:
        if self._config is None or self._guest is None:
            raise Refused("The VM info is not available", "VM is not running")
        disks = {disk["id"]: dict.fromkeys(("read_bytes", "write_bytes", "read_ops", "write_ops"), 0) for disk in self._config.get("disks", []) if "id" in disk}
        nics = {nic["id"]: dict.fromkeys(("rx_bytes", "rx_frames", "tx_bytes", "tx_frames"), 0) for nic in self._config.get("net", []) if "id" in nic}
        return disks | nics

    def create(self, body: Tree) -> None:
        config = deserialize(body)
        if self._config is not None:
            raise Refused("The VM could not be created", "VM is already created")
        self._config = config
        try:
            self._serial = Serial(config["serial"])
        except OSError as exc:
            raise Refused("The VM could not be created", "Error creating console devices", "Error creating console device", _os_error(exc)) from exc
        except KeyError as exc:
            raise Panicked(f"serial without {exc}") from exc

    def boot(self) -> None:
        if self._config is None:
            raise Refused("The VM could not boot", "VM config is missing")
        if self._guest or self._half_booted:
            raise Refused("The VM could not boot", "VM is already created")
        _validate(self._config)
        _open_disks(self._config)
        if os.environ.get("FAKE_VMM_FAULT") == "boot":
            raise Refused("The VM could not boot", "Cannot create VM", "Invalid argument (os error 22)")
        self._half_booted = True
        payload = self._config["payload"]
        kernel = _read_payload(payload)
        self._half_booted = False
        self._bind_vsock()
        if self._serial is None:
            self._serial = Serial(self._config["serial"])
        self._guest = Guest(kernel, payload.get("cmdline", ""), self._serial, self._ended)
        self._state = "Running"
        self._guest.start()

    def pause(self) -> None:
        self._change("The VM could not be paused", "Cannot pause VM", "Failed to pause migratable component", "Paused").pause()

    def resume(self) -> None:
        self._change("The VM could not resume", "Cannot resume VM", "Failed to resume migratable component", "Running").running.set()

    def power_button(self) -> None:
        self._booted("Error triggering power button").asked.set()

    def resize_disk(self, body: Tree) -> None:
        """The file too is extended by the VMM."""
        self._booted("The disk could not be resized")
        paths = [disk["path"] for disk in (self._config or {}).get("disks", []) if disk.get("id") == body.get("id")]
        if not paths or not isinstance(body.get("desired_size"), int):
            raise Refused("The disk could not be resized", "Invalid disk")
        os.truncate(paths[0], body["desired_size"])

    def shutdown(self) -> None:
        if not self._half_booted:
            self._booted("The VM could not shutdown").stop()
        self._close()

    def delete(self) -> None:
        if self._guest:
            self._guest.stop()
        self._close()
        self._config = None

    # --- states --------------------------------------------------------------------------------------------
    def _booted(self, what: str) -> Guest:
        if self._guest is None:
            raise Refused(what, "VM is not running")
        return self._guest

    def _change(self, what: str, verb: str, component: str, state: str) -> Guest:
        guest = self._booted(what)
        if self._state == state:
            raise Refused(what, verb, component, f"Invalid transition: InvalidStateTransition({state}, {state})")
        self._state = state
        return guest

    def _close(self) -> None:
        self._guest, self._state, self._half_booted = None, "Created", False
        if self._serial:
            self._serial.close()
            self._serial = None
        if self._vsock:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._vsock)
            self._vsock = None

    def _bind_vsock(self) -> None:
        import socket

        vsock = (self._config or {}).get("vsock")
        if vsock:
            try:
                socket.socket(socket.AF_UNIX).bind(vsock["socket"])
            except OSError as exc:
                causes = ("Error from device manager", "Cannot create virtio-vsock backend", "Error binding to the host-side Unix socket")
                raise Refused("The VM could not boot", *causes, _os_error(exc)) from exc
            self._vsock = vsock["socket"]

    def _ended(self, how: str) -> None:
        if how == "poweroff":
            self.delete()
            self._on_poweroff()
            return
        # Reboots stay in the process; what the console writes to is kept open.
        config, serial = self._config, self._serial
        if config and serial:
            self._guest = Guest(_read_payload(config["payload"]), config["payload"].get("cmdline", ""), serial, self._ended)
            self._guest.start()


def _os_error(exc: OSError) -> str:
    return f"{exc.strerror} (os error {exc.errno})"


def _read_payload(payload: Tree) -> bytes:
    kind = "kernel" if "kernel" in payload else "firmware"
    try:
        content = pathlib.Path(payload[kind]).read_bytes()
        if "initramfs" in payload:
            pathlib.Path(payload["initramfs"]).read_bytes()
    except OSError as exc:
        raise Refused("The VM could not boot", f"Cannot open {kind} file", _os_error(exc)) from exc
    if kind == "kernel" and not content.startswith(b"\x7fELF") and content[0x202:0x206] != b"HdrS":
        raise Refused("The VM could not boot", "Cannot load the bzImage into memory", "Invalid bzImage binary")
    return content


def _open_disks(config: Tree) -> None:
    for disk in config.get("disks", []):
        if "path" not in disk:
            continue
        try:
            os.close(os.open(disk["path"], os.O_RDONLY if disk["readonly"] else os.O_RDWR))
        except OSError as exc:
            causes = ("Error from device manager", "Cannot open disk path", f"I/O error (path={disk['path']} op=open)")
            raise Refused("The VM could not boot", *causes, _os_error(exc)) from exc


def _ids(config: Tree) -> list[str]:
    singles = [config[name] for name in ("rng", "console", "balloon", "vsock") if name in config]
    lists = [entry for name in ("disks", "net", "fs", "pmem") for entry in config.get(name, [])]
    return [entry["id"] for entry in (*singles, *lists, *config["memory"].get("zones", [])) if "id" in entry]


def _memory_size(config: Tree) -> int:
    return sum(zone["size"] for zone in config["memory"].get("zones", [])) or int(config["memory"]["size"])


def _validate(config: Tree) -> None:
    for problem in _problems(config):
        raise Refused("The VM could not boot", "Failed to validate config", *problem)


def _problems(config: Tree) -> t.Iterator[tuple[str, ...]]:
    """What the real one finds before it makes anything."""
    payload, cpus, memory = config.get("payload") or {}, config["cpus"], config["memory"]
    if not {"kernel", "firmware"} & set(payload):
        yield "Payload configuration is not bootable", "No bootitem provided: neither firmware nor kernel"
    if {"kernel", "firmware"} <= set(payload):
        yield "Payload configuration is not bootable", "Specifying a kernel is not supported when a firmware is provided"
    if cpus["max_vcpus"] < cpus["boot_vcpus"]:
        yield (f"Max CPUs ({cpus['max_vcpus']}) lower than boot CPUs ({cpus['boot_vcpus']})",)
    if "topology" in cpus and math.prod(cpus["topology"].values()) != cpus["max_vcpus"]:
        yield ("Product of CPU topology parts does not match maximum vCPU",)
    yield from _memory_problems(memory)
    shared = memory["shared"] or memory["hugepages"] or any(zone["shared"] or zone["hugepages"] for zone in memory.get("zones", []))
    for device in (*config.get("disks", []), *config.get("net", [])):
        yield from _device_problems(device, cpus["boot_vcpus"], shared)
    if config.get("balloon", {}).get("size", -1) >= _memory_size(config):
        yield (f"Balloon size ({config['balloon']['size']}) greater than RAM ({_memory_size(config)})",)
    if config.get("vsock", {}).get("cid") in (0, 1, 2, 0xFFFFFFFF):
        yield (f"{config['vsock']['cid']} is a special VSOCK CID",)
    ids = _ids(config)
    for name in ids:
        if name.startswith("__"):
            yield (f"Identifier {name} is not invalid",)
        if ids.count(name) > 1:
            yield (f"Identifier {name} is not unique",)
    for rule in config.get("landlock_rules", []):
        if not os.path.exists(rule["path"]):
            yield (f'Path "{rule["path"]}" provided in landlock-rules does not exist',)


def _memory_problems(memory: Tree) -> t.Iterator[tuple[str, ...]]:
    if "hugepage_size" in memory and not memory["hugepages"]:
        yield ("Huge page size specified but huge pages not enabled",)
    if memory["shared"] and memory["mergeable"]:
        yield ("Invalid to set both 'mergeable' and 'shared' for memory",)
    if bool(memory.get("zones")) != (memory["size"] == 0):
        yield ("Invalid memory parameters",)


def _device_problems(device: Tree, boot_vcpus: int, shared: bool) -> t.Iterator[tuple[str, ...]]:
    queues = device["num_queues"] // 2 if "mac" in device else device["num_queues"]
    if queues > boot_vcpus:
        yield (f"Queue count ({queues}) must not exceed boot vCPUs ({boot_vcpus})",)
    if device["queue_size"] & (device["queue_size"] - 1):
        yield (f"Queue size must be a power of 2 no greater than 32768: {device['queue_size']}",)
    if device["vhost_user"] and not shared:
        yield ("Using vhost-user requires using shared memory or huge pages",)
    if device["vhost_user"] and "rate_limiter_config" in device:
        yield ("Rate limiting is not supported with vhost-user",)
    if "vhost_socket" in device and "path" in device:
        yield ("Disk path and vhost socket both provided",)
    if device.get("mtu", 1280) < 1280:
        yield (f"Provided MTU {device['mtu']} is lower than 1280 (expected by VIRTIO specification)",)
