# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rest of the collection asks of a backend. Standard library only; C(config) arguments are C(model.config.VmConfig).

A backend is five files: C(features) (data: see C(capabilities)), C(translate) (pure: our configuration to the VMM's words and back),
C(launch) (pure: how the process is started), C(client) (one function per API call), C(driver) (composes the four).
"""

from __future__ import annotations

import dataclasses
import typing as t

if t.TYPE_CHECKING:
    from ..host.layout import VmLayout
    from ..model.config import VmConfig
    from ..model.definition import Definition


@dataclasses.dataclass(frozen=True)
class FileUse:
    """A file of the host that the VMM must reach. C(alias) is a plain name ([a-z0-9_.]+), unique in the VM.

    With isolation (a uid of its own, a jail) the launch file makes it appear under C(Paths.files); without, the path itself is used.
    C(seed): the file is the VM's own, a copy of the file C(seed) (which the host must have), made before the first start where it is not there yet
    (a UEFI variable store). C(path) is then its name in C(VmLayout.data) in what C(uses) gives, and absolute in what C(launch) gives."""

    path: str
    alias: str
    writable: bool = False
    seed: t.Optional[str] = None


@dataclasses.dataclass(frozen=True)
class TapLimit:
    """What may pass through a tap in one direction. None: as much as there is."""

    bytes_s: t.Optional[float] = None
    burst_bytes: int = 0
    ops_s: t.Optional[float] = None
    burst_ops: int = 0


@dataclasses.dataclass(frozen=True)
class Direct:
    """A macvtap device on an interface of the host's (C(parent)), with the guest's own MAC address. C(descriptor): the number under which the VMM, and
    what boots it, find it open. C(addresses): what the guest may send from, any of a family of which none is named; None where it is not held to anything."""

    parent: str
    mode: str
    mac: str
    descriptor: int
    addresses: t.Optional[tuple[str, ...]] = None


@dataclasses.dataclass(frozen=True)
class TapUse:
    """A tap the VM uses. C(ours): made by the launch file, owned by the VM's uid, on C(bridge) (None: on nothing), and removed by it.

    C(vlan): its VLAN on a bridge that filters them, untagged for the guest.
    C(direct): it is no tap, but a macvtap device, which the VMM is given open.
    C(limit_rx), C(limit_tx): what the host is to hold the guest to, receiving and sending, where the VMM does not."""

    name: str
    ours: bool
    bridge: t.Optional[str] = None
    mtu: t.Optional[int] = None
    queue_pairs: int = 1
    vnet_headers: bool = True
    vlan: t.Optional[int] = None
    limit_rx: t.Optional[TapLimit] = None
    limit_tx: t.Optional[TapLimit] = None
    direct: t.Optional[Direct] = None


@dataclasses.dataclass(frozen=True)
class Paths:
    """Where the VMM finds things, seen from inside its sandbox. The launch file starts it with the working directory C(/run/vmcp/NAME) or, in
    a jail, C(/), so that socket paths stay short and relative: C(vmm/api.sock)."""

    files: t.Mapping[str, str]  # alias -> path as the VMM sees it
    sockets: str  # directory of sockets as the VMM sees it: 'vmm'
    documents: str = ""  # what stands before the name of a document or of the VMM's own log, where these are shown to the VMM; "": as they are


@dataclasses.dataclass(frozen=True)
class LaunchSpec:
    """How a VMM is started: pure data, from which C(host.launchfile) writes the shell file.

    C(argv): binary and arguments, in the order given; every word is quoted by the writer.
    C(jailer): run through the Firecracker jailer, whose binary this is (None: setpriv).
    C(before_start): commands run by root before anything else.
    C(after_start): commands run once C(wait_socket) exists, under the VM's uid but outside its sandbox, in C(/run/vmcp/NAME); a failure fails the start.
    C(documents): files written beside vm.json, name to text, readable for root and the VM's uid. C(document_uses): those the VMM itself opens, alias to
    name.
    C(environment): added to the otherwise empty environment of the process.
    C(stdout_is_console): the guest's serial port is the process's stdout; else stdout goes to C(vmm_log) with stderr, unless
    C(stdout_dropped): nobody reads the console, and what the guest writes there must not fill a log.
    C(stop): how to ask the guest to shut down, without Python where possible: C(argv) run in C(/run/vmcp/NAME) under the VM's uid, or empty for SIGTERM.
    C(exit_zero_is_reboot): a guest that reboots ends the process with code 0; else it reboots within the process, and 0 is its power-off.
    C(vmm_log_in_sandbox): path the VMM opens for its own log, if it cannot use stderr (alias in C(files)).
    """

    argv: tuple[str, ...]
    files: tuple[FileUse, ...] = ()
    taps: tuple[TapUse, ...] = ()
    documents: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    document_uses: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    jailer: t.Optional[str] = None
    environment: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    stdout_is_console: bool = True
    stdout_dropped: bool = False
    before_start: tuple[tuple[str, ...], ...] = ()
    after_start: tuple[tuple[str, ...], ...] = ()
    wait_socket: str = "vmm/api.sock"
    stop: tuple[str, ...] = ()
    exit_zero_is_reboot: bool = False
    vmm_log_in_sandbox: t.Optional[str] = None
    # Extra device nodes of the host that the VM's uid must open: /dev/kvm, /dev/net/tun, /dev/vhost-vsock
    devices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Isolation:
    """How much of the sandbox this VM gets: settled by the planner from C(security) and from who we are."""

    uid: t.Optional[int]  # None: the VMM runs as ourselves (unprivileged, or opted out)
    jail: bool  # Firecracker: the jailer; Cloud Hypervisor: Landlock; QEMU has none
    seccomp: bool  # QEMU: -sandbox


@dataclasses.dataclass(frozen=True)
class Installed:
    """One installed version of a VMM. C(features): what the binary itself says it can (Cloud Hypervisor's ping, QEMU's accelerators)."""

    backend: str
    version: str  # '1.16.1', '53.0', '7.2.22'
    binary: str  # absolute, resolved
    helpers: t.Mapping[str, str] = dataclasses.field(default_factory=dict)  # 'jailer', 'ch-remote' -> absolute path
    features: tuple[str, ...] = ()
    static: bool = False  # no ELF interpreter: fit for the jailer
    current: bool = True


@dataclasses.dataclass(frozen=True)
class Observed:
    """What a VMM says of itself. C(state): C(created), C(running), C(paused) or C(absent) (a VMM without a VM)."""

    state: str
    version: t.Optional[str] = None
    pid: t.Optional[int] = None


class Driver(t.Protocol):
    """One backend. Every call on a socket takes C(deadline) (C(time.monotonic()) value) and raises Unavailable when the VMM
    refuses the connection, DeadlineExceeded when it does not answer in time, Internal when what it answers makes no sense, FailedPrecondition
    with the VMM's own words when it refuses. C(peer_uid): the uid that must be behind the socket (None: any); another one is FailedPrecondition."""

    name: str
    # Whether readers have a socket of their own (VmLayout.monitor_socket) beside the API's.
    has_monitor: bool
    # Whether the guest's vsock is the host kernel's (AF_VSOCK) and not a unix socket.
    host_vsock: bool
    # Whether a VMM that is told of a new size extends the disk's file itself; else that is done before.
    extends_disks: bool

    def launch(self, definition: Definition, config: VmConfig, paths: Paths, isolation: Isolation, layout: VmLayout, metadata: t.Optional[t.Any]) -> LaunchSpec:
        """Pure: the whole command line and documents of this VM."""

    def uses(self, definition: Definition, config: VmConfig) -> tuple[tuple[FileUse, ...], tuple[TapUse, ...]]:
        """Pure: files and taps of the host that the VM needs; the same values C(launch) puts into its result."""

    def observe(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> Observed:
        """State by one raw request on the standard library alone (no httpx, no qemu.qmp). C(socket): the monitor where C(has_monitor)."""

    def ask(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> t.Callable[[], Observed]:
        """As C(observe), in two steps: what is returned waits for the answer. Meanwhile others can be asked. It is to be called."""

    def pause(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> None:
        """Idempotent."""

    def resume(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> None:
        """Idempotent."""

    def request_shutdown(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> bool:
        """Asks the guest to shut down. False when this backend has no way to ask (the caller goes on to force)."""

    def resize_disk(self, socket: str, config: VmConfig, disk_id: str, size_bytes: int, deadline: float, peer_uid: t.Optional[int] = None) -> None:
        """Tells the VMM, and through it the guest, that the disk with this id of ours has grown to C(size_bytes). Idempotent. C(config): with which it runs."""

    def describe(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> dict[str, t.Any]:
        """C({"config": …, "counters": …, "console_path": …}): the unified configuration read back from the VMM, for drift and endpoints."""

    # --- VMMs that somebody else runs (option endpoint) -------------------------------------------------
    def foresee_on(self, action: str, socket: str, config: t.Optional[VmConfig], deadline: float) -> None:
        """Reads only: raises what C(action) (C(define), for which C(config) is, C(start), C(pause), C(resume), C(shutdown), C(remove)) would be refused for
        before it changed anything, so that a check says what the real run does."""

    def define_on(self, socket: str, config: VmConfig, deadline: float) -> None:
        """Gives an empty VMM its VM through the API. FailedPrecondition when it already has one or the API cannot."""

    def boot_on(self, socket: str, deadline: float) -> None:
        """Boots a defined VM through the API."""

    def shutdown_on(self, socket: str, deadline: float) -> None:
        """Stops the VM and keeps the VMM, where the API can; else FailedPrecondition: only the process's owner can."""

    def remove_on(self, socket: str, deadline: float) -> None:
        """Drops the VM from the VMM, where the API can; else FailedPrecondition."""
