# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is behind the API of the fake Firecracker: the configuration with its checks, the three states, and a guest that is a few lines of text.

Texts and order of the checks are those of version 1.16.1; clients may rely on the beginnings only.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import socket
import sys
import threading
import typing as t

from ansible_collections.unkey.vmcp.tests.fakes.firecracker_fields import deserialize

Tree = dict[str, t.Any]

AFTER = "The requested operation is not supported after starting the microVM."
BEFORE = "The requested operation is not supported before starting the microVM."
DEFAULT_ARGS = "reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce"
_ENOENT = "No such file or directory (os error 2)"
# Paths of PUT requests that configure, by part of the document; lists take an id as the next segment.
_PARTS = {part: part for part in ("boot-source", "machine-config", "cpu-config", "drives", "network-interfaces", "vsock", "balloon", "entropy")}
_PARTS |= {"mmds/config": "mmds-config", "hotplug/memory": "memory-hotplug", "logger": "logger", "metrics": "metrics", "serial": "serial"}
_LISTS = {"drives": "drive_id", "network-interfaces": "iface_id"}
_MIB = 1 << 20
_SLOT_MIB = 128


class Fault(Exception):
    """A refusal: 400 but for metadata over the limit."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


class MicroVm:
    def __init__(self, instance: str, version: str, mmds_limit: int, on_end: t.Callable[[], None], pci: bool = False) -> None:
        self._instance, self._version, self._mmds_limit, self._on_end, self._pci = instance, version, mmds_limit, on_end, pci
        self.state = "Not started"
        self._single: dict[str, Tree | None] = {}
        self._lists: dict[str, dict[str, Tree]] = {part: {} for part in _LISTS}
        self._mmds: t.Any = None
        self._sockets: list[socket.socket] = []
        self._guest: Guest | None = None

    # --- the API -------------------------------------------------------------------------------------------
    def request(self, method: str, path: str, body: bytes | None) -> t.Any:
        """The value of the reply; None for 204. Raises Fault."""
        segments = path.strip("/").split("/")
        if method == "GET":
            if body:
                raise Fault("GET request cannot have a body.")
            return self._get(segments)
        if method in ("PUT", "PATCH") and body is None:
            raise Fault(f"Empty {method} request.")
        value = deserialize_json(body) if body else None
        if (method, segments[0]) == ("PUT", "actions"):
            return self._action(value)
        if (method, path) == ("PATCH", "/vm"):
            return self._set_state(value)
        if (method, path) == ("PUT", "/mmds"):
            return self._put_mmds(value)
        part = _PARTS.get("/".join(segments[:2])) or _PARTS.get(segments[0])
        if method == "PUT" and part:
            return self._put(part, value, segments[1:] if part in _LISTS else [])
        if method == "PATCH" and part == "drives" and len(segments) == 2:
            return self._patch_drive(value, segments[1])
        raise Fault(f"Invalid request method and/or path: {method} {segments[0]}.")

    def _patch_drive(self, value: t.Any, drive: str) -> None:
        """What it is asked for when a file has grown: to open it again."""
        if self.state == "Not started":
            raise Fault(BEFORE)
        if not isinstance(value, dict) or value.get("drive_id") != drive:
            raise Fault("The id from the path does not match the id from the body!")
        unknown = sorted(value.keys() - {"drive_id", "path_on_host", "rate_limiter"})
        if unknown:
            raise Fault(f"An error occurred when deserializing the json body of a request: unknown field `{unknown[0]}`.")
        known = self._lists["drives"].get(drive)
        path = value.get("path_on_host")
        if known is None or path is None or not os.path.exists(path):
            raise Fault(f"Drive update error: No such file or directory (os error 2) {path}")
        known["path_on_host"] = path

    def _get(self, segments: list[str]) -> t.Any:
        """Surplus segments after a known path are ignored."""
        readers: dict[tuple[str, ...], t.Callable[[], t.Any]] = {
            ("",): lambda: {"id": self._instance, "state": self.state, "vmm_version": self._version, "app_name": "Firecracker"},
            ("version",): lambda: {"firecracker_version": self._version},
            ("machine-config",): self._machine,
            ("vm", "config"): self._full_config,
            ("balloon",): self._balloon,
            ("mmds",): lambda: {} if self._mmds is None else self._mmds,
            ("hotplug", "memory"): self._memory_status,
        }
        for path, read in readers.items():
            if tuple(segments[: len(path)]) == path:
                return read()
        raise Fault(f"Invalid request method and/or path: GET {segments[0]}.")

    def _balloon(self) -> Tree:
        balloon = self._single.get("balloon")
        if not balloon:
            raise Fault("Balloon config error: No balloon device found.")
        return balloon

    def _memory_status(self) -> Tree:
        if self.state == "Not started":
            raise Fault(BEFORE)
        if not self._single.get("memory-hotplug"):
            raise Fault("Internal VMM error: Failed perform action on device: Device not found")
        return {**t.cast(Tree, self._single["memory-hotplug"]), "plugged_size_mib": 0, "requested_size_mib": 0}

    def _full_config(self) -> Tree:
        source = self._single.get("boot-source") or {"kernel_image_path": "", "initrd_path": None, "boot_args": None}
        parts = ("balloon", "mmds-config", "vsock", "entropy", "memory-hotplug")
        return {
            **{part: self._single.get(part) for part in parts},
            "boot-source": source,
            # Not stable once it runs; the real one reverses them often enough for clients to notice.
            "drives": list(self._lists["drives"].values())[:: 1 if self.state == "Not started" else -1],
            "network-interfaces": list(self._lists["network-interfaces"].values()),
            "machine-config": self._machine(),
            "pmem": [],
            **dict.fromkeys(("cpu-config", "logger", "metrics")),
        }

    def _machine(self) -> Tree:
        return self._single.get("machine-config") or {"vcpu_count": 1, "mem_size_mib": 128, "smt": False, "track_dirty_pages": False, "huge_pages": "None"}

    # --- configuration -------------------------------------------------------------------------------------
    def configure(self, text: str, metadata: str | None) -> None:
        """C(--config-file): all parts, then the start. Unknown keys of the top level are ignored."""
        wire = deserialize_json(text.encode())
        for part in ("boot-source", "drives"):
            if part not in wire:
                raise Fault(f"Configuration for VMM from one single json failed: Invalid JSON: missing field `{part}`")
        if isinstance(wire.get("cpu-config"), str):
            wire["cpu-config"] = deserialize_json(pathlib.Path(wire["cpu-config"]).read_bytes())
        if metadata is not None:
            self._put_mmds(deserialize_json(metadata.encode()))
        for part in (
            "machine-config",
            "cpu-config",
            "boot-source",
            "drives",
            "network-interfaces",
            "vsock",
            "balloon",
            "mmds-config",
            "entropy",
            "memory-hotplug",
        ):
            for body in wire.get(part) or [] if part in _LISTS else [wire.get(part)]:
                if body is not None:
                    self._put(part, body, [body.get(_LISTS[part], "")] if part in _LISTS else [])
        self._start()

    def _put(self, part: str, body: t.Any, ids: list[str]) -> None:
        if part in _LISTS:
            if not ids or not ids[0]:
                raise Fault("The ID cannot be empty.")
            if not re.fullmatch(r"[A-Za-z0-9_]+", ids[0]):
                raise Fault("API Resource IDs can only contain alphanumeric characters and underscores.")
        value = deserialize(part, body, Fault)
        if part in _LISTS and value[_LISTS[part]] != ids[0]:
            raise Fault("The id from the path does not match the id from the body!")
        if self.state != "Not started":
            raise Fault("PCI is not enabled" if part in _LISTS and not self._pci else AFTER)
        getattr(self, "_check_" + part.replace("-", "_"), lambda _value: None)(value)
        if part in _LISTS:
            self._lists[part][ids[0]] = value
        else:
            self._single[part] = value

    def _check_machine_config(self, value: Tree) -> None:
        count, size = value["vcpu_count"], value["mem_size_mib"]
        if not 1 <= count <= 32 or (value["smt"] and count > 1 and count % 2):
            raise Fault("Machine config error: The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even number if SMT is enabled.")
        if size == 0 or (value["huge_pages"] == "2M" and size % 2):
            raise Fault("Machine config error: The memory size (MiB) is either 0, or not a multiple of the configured page size.")
        if value.get("cpu_template") in (None, "None"):
            value.pop("cpu_template", None)

    def _check_boot_source(self, value: Tree) -> None:
        for key, text in (
            ("kernel_image_path", "The kernel file cannot be opened: "),
            ("initrd_path", "The initrd file cannot be opened due to invalid path or invalid permissions. "),
        ):
            if value[key] is not None and not os.access(value[key], os.R_OK):
                raise Fault(f"Boot source error: {text}{_ENOENT}")

    def _check_drives(self, value: Tree) -> None:
        prefix = "Drive config error: "
        if value["is_root_device"] and any(drive["is_root_device"] for key, drive in self._lists["drives"].items() if key != value["drive_id"]):
            raise Fault(prefix + "A root block device already exists!")
        if value["socket"]:
            if any(value[key] is not None for key in ("path_on_host", "is_read_only", "rate_limiter", "io_engine")):
                raise Fault(prefix + "Unable to create the virtio block device: Invalid block config.")
            with socket.socket(socket.AF_UNIX) as backend:
                if backend.connect_ex(value["socket"]):
                    raise Fault(f"{prefix}Unable to create the virtio block device: Vhost user backend error: Vhost-user error: Failed to connect to UDS")
            return
        if not value["path_on_host"]:
            raise Fault(prefix + "Unable to create the virtio block device: Invalid block config.")
        if not os.access(value["path_on_host"], os.R_OK if value["is_read_only"] else os.R_OK | os.W_OK):
            path = value["path_on_host"]
            raise Fault(f"{prefix}Unable to create the virtio block device: Virtio backend error: Error manipulating the backing file: {_ENOENT} {path}")
        value["is_read_only"] = bool(value["is_read_only"])
        value["io_engine"] = value["io_engine"] or "Sync"

    def _check_network_interfaces(self, value: Tree) -> None:
        others = [nic for key, nic in self._lists["network-interfaces"].items() if key != value["iface_id"]]
        if value["guest_mac"] and any(nic["guest_mac"] == value["guest_mac"] for nic in others):
            raise Fault(f"Network config error: The MAC address is already in use: {value['guest_mac']}")
        prefix = "Network config error: Could not create the network device: Open tap device failed: "
        if len(value["host_dev_name"]) > 15:
            raise Fault(prefix + "Invalid interface name")
        if any(nic["host_dev_name"] == value["host_dev_name"] for nic in others):
            raise Fault(
                prefix
                + f"Error while creating ifreq structure: Device or resource busy (os error 16). Invalid TUN/TAP Backend provided by {value['host_dev_name']}."
            )

    def _check_vsock(self, value: Tree) -> None:
        backend = socket.socket(socket.AF_UNIX)
        try:
            backend.bind(value["uds_path"])
        except OSError as exc:
            raise Fault(
                f"Vsock config error: Cannot create backend for vsock device: Error binding to the host-side Unix socket: {exc.strerror} (os error {exc.errno})"
            ) from exc
        backend.listen()
        self._sockets.append(backend)

    def _check_balloon(self, value: Tree) -> None:
        if value["amount_mib"] > self._machine()["mem_size_mib"]:
            raise Fault("Balloon config error: Amount of pages requested is too large.")

    def _check_mmds_config(self, value: Tree) -> None:
        prefix = "MMMDS config error: The list of network interface IDs"
        if not value["network_interfaces"]:
            raise Fault(f"{prefix} that allow forwarding MMDS requests is empty.")
        if not set(value["network_interfaces"]) <= set(self._lists["network-interfaces"]):
            raise Fault(f"{prefix} provided contains at least one ID that does not correspond to any existing network interface.")

    def _check_memory_hotplug(self, value: Tree) -> None:
        prefix, slot, total = "Memory hotplug config error: ", value["slot_size_mib"], value["total_size_mib"]
        if slot < _SLOT_MIB:
            raise Fault(f"{prefix}Slot size must not be lower than {_SLOT_MIB} MiB")
        if total < slot:
            raise Fault(f"{prefix}Total size must not be lower than slot size ({slot} MiB)")
        if total % slot:
            raise Fault(f"{prefix}Total size must be a multiple of slot size ({slot} MiB)")

    def _put_mmds(self, value: t.Any) -> None:
        if len(json.dumps(value)) > self._mmds_limit:
            raise Fault("MMDS limit exceeded error: The MMDS patch request doesn't fit.", 413)
        self._mmds = value

    # --- states --------------------------------------------------------------------------------------------
    def _action(self, body: t.Any) -> None:
        action = deserialize("action", body, Fault)["action_type"]
        if action == "InstanceStart":
            if self.state != "Not started":
                raise Fault(AFTER)
            self._start()
            return
        if self._guest is None:
            raise Fault(BEFORE)
        if action == "SendCtrlAltDel":
            self._guest.asked.set()

    def _set_state(self, body: t.Any) -> None:
        state = deserialize("vm", body, Fault)["state"]
        if self._guest is None:
            raise Fault(BEFORE)
        self.state = "Paused" if state == "Paused" else "Running"
        (self._guest.pause if state == "Paused" else self._guest.running.set)()

    def _start(self) -> None:
        source = self._single.get("boot-source")
        if not source:
            raise Fault("Start microvm error: Cannot start microvm without kernel configuration.")
        kernel = pathlib.Path(source["kernel_image_path"]).read_bytes()
        if not kernel.startswith(b"\x7fELF"):
            raise Fault(
                "Start microvm error: System configuration error: Cannot load kernel due to invalid memory configuration or invalid kernel image: "
                "Kernel Loader: failed to load ELF kernel image: Kernel Loader: Invalid Elf magic number"
            )
        self._guest = Guest(kernel, self._command_line(source["boot_args"]), self._on_end)
        self.state = "Running"
        self._guest.start()

    def _command_line(self, args: str | None) -> str:
        """The user's words, then Firecracker's, then what is for init."""
        words, dashes, init = (DEFAULT_ARGS if args is None else args).partition(" -- ")
        for drive in self._lists["drives"].values():
            if drive["is_root_device"]:
                words += f" root={'PARTUUID=' + drive['partuuid'] if drive['partuuid'] else '/dev/vda'} {'ro' if drive['is_read_only'] else 'rw'}"
        return words + dashes + init


class Guest(threading.Thread):
    """Prints and ends as the kernels of C(tests/guests.py) do: told apart by the texts in them, the greeting being the last."""

    def __init__(self, kernel: bytes, command_line: str, on_end: t.Callable[[], None]) -> None:
        super().__init__(daemon=True)
        texts = re.findall(rb"([\x20-\x7e]+\r\n)\0", kernel)
        self._greeting = texts[-1].decode() if texts else os.environ.get("FAKE_GUEST_GREETING", "")
        self._cmdline = f"cmdline: {command_line}\r\n" if b"cmdline: \0" in kernel else ""
        self._ticks = b"tick \0" in kernel
        self._resets = b"\xba\x64\x00\xb0\xfe\xee" in kernel and b"goodbye\r\n\0" not in kernel
        self._polite = (b"goodbye\r\n\0" in kernel or not texts) and "FAKE_GUEST_STUBBORN" not in os.environ
        self._on_end = on_end
        self.running, self.asked = threading.Event(), threading.Event()
        self.running.set()
        self._printing = threading.Lock()

    def pause(self) -> None:
        """When it is through, nothing more is printed."""
        with self._printing:
            self.running.clear()

    def run(self) -> None:
        self._print(self._greeting + self._cmdline)
        if self._resets:
            self._on_end()
            return
        tick = 0
        while not (self._polite and self.asked.wait(0.25)):
            if not self._polite:
                self.asked.wait(0.25)
                self.asked.clear()
            if self._ticks:
                tick += 1
                self._print(f"tick {tick}\r\n")
        self._print("goodbye\r\n")
        self._on_end()

    def _print(self, text: str) -> None:
        while True:
            self.running.wait()
            with self._printing:
                if self.running.is_set():
                    sys.stdout.write(text)
                    sys.stdout.flush()
                    return


def deserialize_json(body: bytes) -> t.Any:
    try:
        return json.loads(body)
    except ValueError as exc:
        raise Fault(f"An error occurred when deserializing the json body of a request: {exc}.") from exc
