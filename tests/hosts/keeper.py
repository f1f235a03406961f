# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a fleet (fleet.py) for as long as somebody outside of this Python needs it: Molecule's scenarios, or a person who wants hosts to try things on.

    keeper.py up DIR [COUNT]     makes the hosts; DIR/inventory is for ansible-playbook -i
    keeper.py reboot DIR HOST    off and on again
    keeper.py crash DIR HOST     as when the power fails; it is on again when this ends
    keeper.py down DIR           ends and removes all of it
    keeper.py possible           says why there can be no such hosts here, with code 3

A process of its own has the hosts, and listens on DIR/control.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import typing as t

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from ansible_collections.unkey.vmcp.tests.guests import pvh_guest
from ansible_collections.unkey.vmcp.tests.hosts.fleet import URL, Fleet, fleet
from ansible_collections.unkey.vmcp.tests.hosts.nspawn import SUITE, HostUnavailable, base_tree, check_possible
from ansible_collections.unkey.vmcp.tests.hosts.releases import Releases, is_real

GREETING = "up on a host of the fleet"
FIRECRACKER = ("1.16.1", "1.16.2")
CLOUDHYPERVISOR = ("53.0",)
# The role's own version of that firmware.
EDK2 = "ch-1e1b96f126"
# All that roles install on the hosts from Debian.
INSTALLABLE = (
    *("acl", "iproute2", "dnsmasq-base", "nftables", "qemu-utils", "e2fsprogs", "xfsprogs", "dosfstools", "python3-venv"),
    *(("qemu-system-x86",) if os.uname().machine == "x86_64" else ("qemu-system-arm",)),
)
# Of the tree's Python.
PYTHON = {"bookworm": "3.11", "trixie": "3.13"}[SUITE]
# Where the hosts have the guest's kernel, and how many VMs each is to have.
GUEST = "/opt/guests/halt/vmlinux"
NEW_GUEST = "/opt/guests/new/vmlinux"
VMS = 20
NETWORK = "apps"
IMAGE = "data"
UP_S = 1800
ANSWER_S = 1200
UNAVAILABLE = 3


def backends() -> dict[str, bool]:
    """Those whose VMs can be started, and whether in earnest: with QEMU they always can; of Firecracker there is a stub."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return {"qemu": True}
    found = {"qemu": True, "firecracker": is_real("firecracker") and is_real("jailer")}
    return {**found, **({"cloudhypervisor": True} if is_real("cloud-hypervisor") and is_real("ch-remote") else {})}


def most() -> str:
    """The backend of most VMs, and of those that do something with their disks and networks."""
    return [backend for backend, real in backends().items() if real][-1]


def wheels() -> pathlib.Path:
    """The libraries of the modules' runtime, for hosts without an index."""
    requirements = REPOSITORY / "requirements.txt"
    kept = base_tree(()).parent / f"wheels-{hashlib.sha256(requirements.read_bytes() + PYTHON.encode()).hexdigest()[:12]}"
    if not kept.exists():
        unfinished = kept.with_name(f"unfinished-{os.getpid()}")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--python-version", PYTHON]
        done = subprocess.run([*command, "-r", str(requirements), "-d", str(unfinished)], capture_output=True, text=True, timeout=UP_S, check=False)
        if done.returncode != 0:
            raise HostUnavailable(f"the libraries of the runtime cannot be downloaded: {done.stderr.strip()[-300:]}")
        unfinished.rename(kept)
    return kept


def vms() -> list[dict[str, t.Any]]:
    """Groups of identical VMs, one for each backend whose VMs can be started; and one VM with what the site makes for VMs: a network and an image."""
    found = backends()
    share = (VMS - 1) // (2 * len(found))
    numbers = {backend: share for backend in found} | {most(): VMS - 1 - share * (len(found) - 1)}
    # Each has the name of its host in its own, so that all can be on one host. A stub cannot be jailed.
    groups = [
        {"name": f"{{{{ inventory_hostname }}}}-{backend}-{{index:02d}}", "count": number, "backend": backend}
        | ({} if found[backend] else {"security": {"jail": False}})
        for backend, number in numbers.items()
    ]
    return [*groups, {"name": "{{ inventory_hostname }}-whole", "backend": most(), "networks": [NETWORK], "disks": [{"image": IMAGE}]}]


def upgrade() -> dict[str, t.Any]:
    """What the fleet is upgraded to: another version of a VMM where VMs of one can be started that has several here, else another kernel."""
    if "firecracker" in backends():
        return {"vmcp_upgrade_backend": "firecracker", "vmcp_upgrade_version": FIRECRACKER[1], "vmcp_upgrade_batch": 2}
    return {"vmcp_upgrade_backend": "qemu", "vmcp_upgrade_kernel": NEW_GUEST, "vmcp_upgrade_batch": 10}


def differently(made: Fleet, hosts: dict[str, dict[str, t.Any]]) -> None:
    """The first host gets the runtime's libraries from a directory of wheels; the others in the other ways that there are, and another firmware."""
    if "vmcp2" in hosts:
        archive = made.work / "wheels.tar.gz"
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            for wheel in wheels().iterdir():
                tar.add(wheel, wheel.name)
        hosts["vmcp2"]["vmcp_host_wheels"] = str(archive)
    if "vmcp3" in hosts:
        # An index, which can be reached by way of a proxy alone; without TLS, pip must be told that it can be trusted.
        for wheel in wheels().iterdir():
            directory = made.served / "simple" / re.sub("[-_.]+", "-", wheel.name.split("-")[0]).lower()
            directory.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(wheel, directory / wheel.name)
        (made.hosts["vmcp3"].root / "etc/pip.conf").write_text("[global]\ntrusted-host = index.invalid\n")
        index = {"vmcp_host_wheels": "", "vmcp_host_index": "http://index.invalid/simple/", "vmcp_host_proxy": URL}
        hosts["vmcp3"].update({**index, "vmcp_cloudhypervisor_firmware": "edk2"})


def furnish(made: Fleet) -> None:
    """What the controller has for the hosts: an inventory with the roles' options, releases, a guest."""
    releases = Releases(made.served)
    for version in FIRECRACKER:
        releases.firecracker(version)
    for version in CLOUDHYPERVISOR:
        releases.cloudhypervisor(version)
    releases.firmware()
    releases.firmware(EDK2, b"edk2", kind="edk2")
    (made.work / "guest").write_bytes(pvh_guest(GREETING, "halt"))
    image = b"what every clone begins with".ljust(1 << 20, b"\0")
    (made.served / "data.img").write_bytes(image)
    inventory = made.work / "inventory"
    (inventory / "group_vars").mkdir(parents=True)
    body = made.inventory()
    differently(made, body["hypervisors"]["hosts"])
    (inventory / "hosts.json").write_text(json.dumps(body, indent=2) + "\n")
    releases.write_variables(
        URL,
        inventory / "group_vars" / "hypervisors.json",
        vmcp_host_wheels=str(wheels()),
        vmcp_backends=["qemu", "firecracker", "cloudhypervisor"],
        # The hosts' server has no kernels: the guests of these tests bring their own.
        vmcp_kernels=False,
        vmcp_networks=[{"name": NETWORK, "ipv4": "10.80.0.1/24", "dhcp": True}],
        # They share the memory of one machine, and each is to have room for the VMs of another.
        vmcp_vm_overcommit=True,
        vmcp_host_capacity={"memory": "64G", "vcpus": 256},
        vmcp_images=[{"name": IMAGE, "url": f"{URL}/data.img", "checksum": f"sha256:{hashlib.sha256(image).hexdigest()}"}],
        vmcp_vms=vms(),
        vmcp_vm_defaults={
            "state": "running",
            "kernel": GUEST,
            "memory": "128M",
            "wait_for": [{"console": GREETING}],
            "wait_timeout": 600,
            "shutdown_timeout": 0,
            "workload": "persistent",
        },
        vmcp_test_guest=str(made.work / "guest"),
        vmcp_test_kernels=[GUEST, NEW_GUEST],
        vmcp_test_greeting=GREETING,
        vmcp_test_backend=most(),
        vmcp_test_upgrade=upgrade(),
        vmcp_test_keeper=[sys.executable, str(pathlib.Path(__file__).resolve())],
        vmcp_test_directory=str(made.work),
        vmcp_test_asked=str(made.served / ".requests"),
    )


def keep(directory: pathlib.Path, count: int) -> None:
    signal.signal(signal.SIGTERM, lambda *dummy: sys.exit(0))
    with fleet(count, installable=INSTALLABLE, work=directory) as made, socket.socket(socket.AF_UNIX) as control:
        furnish(made)
        control.bind(str(directory / "control"))
        control.listen()
        while True:
            connection = control.accept()[0]
            with connection, connection.makefile("rw", encoding="utf-8") as stream:
                verb, *words = stream.readline().split()
                try:
                    answer = act(made, verb, *words)
                except Exception as exc:  # whatever it was, the one who asked is to hear it
                    answer = f"{verb} failed: {exc}"
                print(answer, file=stream, flush=True)
                if verb == "down":
                    return


def act(made: Fleet, verb: str, host: str = "") -> str:
    if verb == "reboot":
        made.hosts[host].reboot()
    elif verb == "crash":
        made.hosts[host].crash()
        made.hosts[host].boot()
    return "ok"


def up(directory: pathlib.Path, count: int) -> None:
    if (directory / "control").exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "keeper.log").open("wb") as log:
        command = [sys.executable, str(pathlib.Path(__file__).resolve()), "keep", str(directory), str(count)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/")
    (directory / "pid").write_text(f"{process.pid}\n")
    deadline = time.monotonic() + UP_S
    while not (directory / "control").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            said = (directory / "keeper.log").read_text(errors="replace").strip()
            print(f"the fleet did not come up: {said[-2000:]}", file=sys.stderr)
            sys.exit(UNAVAILABLE if process.poll() == UNAVAILABLE else 1)
        time.sleep(0.1)


def ask(directory: pathlib.Path, *words: str) -> None:
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(ANSWER_S)
        control.connect(str(directory / "control"))
        with control.makefile("rw", encoding="utf-8") as stream:
            print(*words, file=stream, flush=True)
            answer = stream.readline().strip()
    if answer != "ok":
        sys.exit(answer or "the keeper of the fleet has ended")


def down(directory: pathlib.Path) -> None:
    """Returns when nothing of it is left: no host, no network, no process."""
    if not (directory / "control").exists():
        return
    pid = int((directory / "pid").read_text())
    ask(directory, "down")
    deadline = time.monotonic() + ANSWER_S
    while os.path.exists(f"/proc/{pid}") and _state(pid) != "Z":
        if time.monotonic() > deadline:
            sys.exit(f"the keeper of the fleet, process {pid}, did not end")
        time.sleep(0.1)
    for name in ("control", "pid"):
        (directory / name).unlink(missing_ok=True)


def _state(pid: int) -> str:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def main(verb: str, *words: str) -> None:
    verbs: dict[str, t.Callable[..., None]] = {
        "up": lambda directory, count="3": up(pathlib.Path(directory), int(count)),
        "keep": lambda directory, count: keep(pathlib.Path(directory), int(count)),
        "down": lambda directory: down(pathlib.Path(directory)),
        "reboot": lambda directory, host: ask(pathlib.Path(directory), "reboot", host),
        "crash": lambda directory, host: ask(pathlib.Path(directory), "crash", host),
        "possible": check_possible,
    }
    try:
        verbs[verb](*words)
    except HostUnavailable as exc:
        print(exc, file=sys.stderr)
        sys.exit(UNAVAILABLE)


if __name__ == "__main__":
    main(*sys.argv[1:])
