# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every path that belongs to a VM or to the host's state, named in one place. Nothing here touches the file system.

Who owns what: everything is root's (or the unprivileged user's), except C(data) and C(sockets), which belong to the VM's uid. Root
neither executes nor reads as configuration anything below those two.
"""

from __future__ import annotations

import dataclasses
import os
import typing as t

SYSTEM_STATE_DIR = "/var/lib/vmcp"
SYSTEM_RUN_DIR = "/run/vmcp"
HOST_JSON = "/etc/vmcp/host.json"
OPT_DIR = "/opt/vmcp"


@dataclasses.dataclass(frozen=True)
class VmLayout:
    """The files of one VM. C(dir) survives a reboot, C(run) does not."""

    name: str
    dir: str
    run: str
    lock: str

    # --- state, root-owned 0711 ------------------------------------------------------------------------
    @property
    def definition(self) -> str:
        return f"{self.dir}/vm.json"

    @property
    def definition_next(self) -> str:
        """What C(vm.json) is to become, until it has: see C(following)."""
        return f"{self.dir}/vm.json.next"

    @property
    def launch(self) -> str:
        """The shell file that starts, boots, stops and clears up after the VMM; root-owned, 0600."""
        return f"{self.dir}/launch"

    @property
    def policy(self) -> str:
        """What happens after an end, for the launch file to read: apart from it, because it counts at once."""
        return f"{self.dir}/policy"

    @property
    def launch_running(self) -> str:
        """The launch file of the running process, while C(launch) has become another one. Absent: they are the same."""
        return f"{self.dir}/launch.running"

    @property
    def booted(self) -> str:
        """The definition of the running process, while C(vm.json) has become another one. Absent: they are the same."""
        return f"{self.dir}/booted.json"

    def document(self, name: str) -> str:
        """A file that the VMM reads at start (its configuration in its own words), root-owned."""
        return f"{self.dir}/{name}"

    @property
    def secrets(self) -> str:
        return f"{self.dir}/secrets.json"

    @property
    def console_log(self) -> str:
        return f"{self.dir}/console.log"

    @property
    def console_previous(self) -> str:
        return f"{self.dir}/console.previous.log"

    @property
    def vmm_log(self) -> str:
        """What the VMM itself says (stderr or its log), of this boot and the one before."""
        return f"{self.dir}/vmm.log"

    @property
    def events(self) -> str:
        return f"{self.dir}/events.jsonl"

    @property
    def granted(self) -> str:
        """Access that the launch file gave the VM's uid to files of the host's, a line each; there while it is to be taken back."""
        return f"{self.dir}/granted"

    @property
    def data(self) -> str:
        """The VM's own: UEFI variables, disks, snapshots."""
        return f"{self.dir}/data"

    # --- run time, root-owned 0711, gone after a reboot ----------------------------------------------------
    @property
    def pid(self) -> str:
        """One line: C(PID STARTTIME BOOT_ID HOST_BOOT_ID REST); STARTTIME is field 22 of C(/proc/PID/stat), REST: see C(processes.Recorded)."""
        return f"{self.run}/pid"

    @property
    def watched(self) -> str:
        """There while a task watches the start, and says itself that the VM is up. Holds when it asked for the start."""
        return f"{self.run}/watched"

    @property
    def up(self) -> str:
        """There once the start is through."""
        return f"{self.run}/up"

    @property
    def problem(self) -> str:
        """Why a start failed, in a sentence."""
        return f"{self.run}/problem"

    @property
    def limits(self) -> str:
        """Names of taps that the host holds to limits."""
        return f"{self.run}/limits"

    @property
    def taps(self) -> str:
        """Taps that the launch file made, a name a line."""
        return f"{self.run}/taps"

    @property
    def supervisor(self) -> str:
        """The plain supervisor's process, in the form of C(pid)."""
        return f"{self.run}/supervisor"

    @property
    def supervisor_lock(self) -> str:
        """Held by the plain supervisor for its life, and by what it starts until that is the VMM."""
        return f"{self.run}/supervisor.lock"

    @property
    def stopping(self) -> str:
        """There while somebody asked the VM to stop; holds the reason (C(request), C(host), C(restart)), and in a second line whether it is being removed."""
        return f"{self.run}/stopping"

    @property
    def restarting(self) -> str:
        """There from the moment a task begins to restart the VM until it runs again: if the task is killed in between, the next one goes on."""
        return f"{self.run}/restarting"

    @property
    def satisfied(self) -> str:
        """Cache for the no-change path: digest of options and definition that were last found in agreement."""
        return f"{self.run}/satisfied.json"

    @property
    def files(self) -> str:
        """Where disks, kernel and initrd appear for the VMM inside its private mount namespace."""
        return f"{self.run}/files"

    @property
    def jail(self) -> str:
        """Base directory of the jailer: a tmpfs inside the private mount namespace."""
        return f"{self.run}/jail"

    @property
    def sockets(self) -> str:
        """Directory of the VM's uid, 0700: the only place where the VMM makes sockets."""
        return f"{self.run}/vmm"

    @property
    def api_socket(self) -> str:
        return f"{self.sockets}/api.sock"

    @property
    def monitor_socket(self) -> str:
        """QEMU's second QMP server, for readers without the lock."""
        return f"{self.sockets}/mon.sock"

    @property
    def vsock_socket(self) -> str:
        return f"{self.sockets}/vsock.sock"

    @property
    def console_socket(self) -> str:
        return f"{self.sockets}/console.sock"


@dataclasses.dataclass(frozen=True)
class DiskLayout:
    """The files of one disk that outlives VMs. C(making): where it is made, until it is whole and gets its name."""

    name: str
    dir: str
    making: str
    lock: str

    @property
    def record(self) -> str:
        return f"{self.dir}/disk.json"


@dataclasses.dataclass(frozen=True)
class Layout:
    """The two roots. C(Layout.resolve) knows the defaults of root and of other users."""

    state_dir: str
    run_dir: str

    @classmethod
    def resolve(cls, state_dir: str | None, run_dir: str | None, environ: t.Mapping[str, str], uid: int) -> Layout:
        """Option, else C(UNKEY_VMCP_STATE_DIR)/C(UNKEY_VMCP_RUN_DIR), else the system's directories for root and
        C(~/.local/state/vmcp) for others (with C(run) inside: C(XDG_RUNTIME_DIR) vanishes at logout). A C(state_dir) that is not
        the system's keeps its run-time files in C(run) below it unless C(run_dir) says otherwise."""
        state = state_dir or environ.get("UNKEY_VMCP_STATE_DIR")
        if not state:
            home = environ.get("HOME") or os.path.expanduser("~")
            state = SYSTEM_STATE_DIR if uid == 0 else f"{home}/.local/state/vmcp"
        state = os.path.abspath(os.path.expanduser(state))
        run = run_dir or environ.get("UNKEY_VMCP_RUN_DIR")
        if not run:
            run = SYSTEM_RUN_DIR if state == SYSTEM_STATE_DIR else f"{state}/run"
        return cls(state_dir=state, run_dir=os.path.abspath(os.path.expanduser(run)))

    @property
    def is_system(self) -> bool:
        """Whether these are the system's directories: only then are systemd's units ours to use."""
        return self.state_dir == SYSTEM_STATE_DIR and self.run_dir == SYSTEM_RUN_DIR

    @property
    def vms(self) -> str:
        return f"{self.state_dir}/vms"

    @property
    def lock_dir(self) -> str:
        """Beside the run directory and never removed: a lock inside a directory that is removed and remade can be held twice."""
        return f"{self.run_dir}.locks"

    @property
    def host_lock(self) -> str:
        # A leading dot: no VM can have this name.
        return f"{self.lock_dir}/.host"

    @property
    def images(self) -> str:
        """Images by name, and their content once for all names."""
        return f"{self.state_dir}/images"

    @property
    def images_lock(self) -> str:
        """Held, never for long, by whoever changes which content is there and who uses it."""
        return f"{self.lock_dir}/.images"

    def image_lock(self, name: str) -> str:
        """Held by the task that makes the image, for as long as that takes."""
        return f"{self.lock_dir}/.image-{name}"

    @property
    def kernels(self) -> str:
        """Kernels by name and version, beside the VMMs."""
        return f"{OPT_DIR}/kernels" if self.is_system else f"{self.state_dir}/kernels"

    @property
    def trimmer_lock(self) -> str:
        """Held by the process that bounds the logs of VMs under the plain supervisor; says which one that is."""
        return f"{self.lock_dir}/.trimmer"

    @property
    def allocations(self) -> str:
        return f"{self.state_dir}/allocations.json"

    @property
    def disks(self) -> str:
        return f"{self.state_dir}/disks"

    @property
    def disks_lock(self) -> str:
        """Held while somebody settles which VM uses which disk."""
        return f"{self.lock_dir}/.disks"

    def disk(self, name: str) -> DiskLayout:
        return DiskLayout(name=name, dir=f"{self.disks}/{name}", making=f"{self.disks}/.making-{name}", lock=f"{self.lock_dir}/.disk.{name}")

    def vm(self, name: str) -> VmLayout:
        return VmLayout(name=name, dir=f"{self.vms}/{name}", run=f"{self.run_dir}/{name}", lock=f"{self.lock_dir}/{name}")
