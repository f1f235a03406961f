# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts as a fleet has them: several with systemd and sshd (nspawn.py) on a network of their own, reached over ssh by an unprivileged user with sudo.

    with fleet(3) as made:
        made.inventory()

The network is a bridge in a network namespace that is made for it, with a veth cable to each host; nothing of it is seen on the machine itself, nor
does anything get out. ssh gets in by a proxy command. An HTTP server in the same namespace has what is served (C(Fleet.served)): releases of VMMs and
Debian packages, so that hosts install from it as they would from the Internet or from a site's mirror.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time
import typing as t
import urllib.parse

from ansible_collections.unkey.vmcp.tests.hosts import packages as debian
from ansible_collections.unkey.vmcp.tests.hosts.nspawn import Host, HostUnavailable, base_tree, check_possible, made_host

PACKAGES = ("openssh-server", "sudo", "python3-apt", "kmod")
USER = "deploy"
NETWORK = "10.213.77"
PORT = 8077
URL = f"http://{NETWORK}.1:{PORT}"
# By ssh's ProxyUseFdpass: connects in the namespace of the fleet, and hands the connection over.
_CONNECT = "import socket,sys; s=socket.create_connection((sys.argv[1],int(sys.argv[2])),60); socket.send_fds(socket.socket(fileno=1),[b'x'],[s.fileno()])"
_SERVE = "import sys; from ansible_collections.unkey.vmcp.tests.hosts import fleet; fleet.serve(sys.argv[1])"
COMMAND_S = 180


class Fleet:
    """C(hosts) by name (vmcp1, …); C(served): the directory that the hosts see at C(URL); C(work): for files of the controller."""

    def __init__(self, namespace: str, work: pathlib.Path, hosts: dict[str, Host]) -> None:
        self.namespace = namespace
        self.work = work
        self.hosts = hosts
        self.served = work / "served"

    def address(self, name: str) -> str:
        return f"{NETWORK}.{10 + list(self.hosts).index(name)}"

    @property
    def ssh_config(self) -> pathlib.Path:
        return self.work / "ssh_config"

    def inventory(self) -> dict[str, t.Any]:
        """In the form of a YAML inventory: the group C(hypervisors)."""
        options = {
            "ansible_user": USER,
            "ansible_become": True,
            # A machine that runs three hosts may be slow to let anybody in.
            "ansible_timeout": 90,
            "ansible_ssh_common_args": f"-F {shlex.quote(str(self.ssh_config))}",
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        return {"hypervisors": {"hosts": {name: {"ansible_host": self.address(name)} for name in self.hosts}, "vars": options}}

    def inside(self, *words: str) -> list[str]:
        """A command of the controller in the network of the fleet."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", "--", *words]


@contextlib.contextmanager
def fleet(count: int = 3, *, installable: t.Sequence[str] = (), work: pathlib.Path | None = None) -> t.Iterator[Fleet]:
    """C(installable): Debian packages (with what they depend on) that the hosts can install from the fleet's own server, and nothing else. C(work): an
    empty directory for what belongs to the fleet, instead of a temporary one."""
    check_possible()
    tree = base_tree(PACKAGES)
    with contextlib.ExitStack() as stack:
        work = work or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vmcp-fleet-")))
        made = Fleet(f"vmcp-fleet-{os.getpid():x}", work, {})
        _network(stack, made.namespace)
        made.served.mkdir()
        if installable:
            debian.repository(tree, PACKAGES, installable, made.served / "debian")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(work / "key")], check=True, timeout=COMMAND_S)
        _write_ssh_config(made)
        for number in range(1, count + 1):
            name, cable = f"vmcp{number}", f"vh{os.getpid() % 0xFFFFFF:x}-{number}"
            connect = functools.partial(_plug, made.namespace, cable)
            made.hosts[name] = made_host(stack, tree, [f"--network-veth-extra={cable}:host0", f"--hostname={name}"], connect)
            _furnish(made, name)
        _server(stack, made)
        for host in made.hosts.values():
            host.boot(wait=False)
        for host in made.hosts.values():
            host.wait_booted()
        yield made


def _network(stack: contextlib.ExitStack, namespace: str) -> None:
    done = subprocess.run(["ip", "netns", "add", namespace], capture_output=True, text=True, timeout=COMMAND_S, check=False)
    if done.returncode != 0:
        raise HostUnavailable(f"no network namespace can be made: {done.stderr.strip()}")
    stack.callback(subprocess.run, ["ip", "netns", "delete", namespace], check=True, timeout=COMMAND_S)
    for words in ("link set lo up", "link add fleet type bridge", f"address add {NETWORK}.1/24 dev fleet", "link set fleet up"):
        subprocess.run(["ip", "-n", namespace, *words.split()], check=True, timeout=COMMAND_S)


def _plug(namespace: str, cable: str) -> None:
    """Our end of the cable, which systemd-nspawn makes, goes to the fleet's bridge."""
    deadline = time.monotonic() + COMMAND_S
    while subprocess.run(["ip", "link", "set", cable, "netns", namespace], capture_output=True, timeout=COMMAND_S, check=False).returncode != 0:
        if time.monotonic() > deadline:
            raise HostUnavailable(f"systemd-nspawn made no network interface {cable}")
        time.sleep(0.02)
    subprocess.run(["ip", "-n", namespace, "link", "set", cable, "master", "fleet", "up"], check=True, timeout=COMMAND_S)


def _furnish(made: Fleet, name: str) -> None:
    """What an installer leaves on a bare host: a network, a login with sudo, where packages come from."""
    root = made.hosts[name].root
    (root / "etc/systemd/network").mkdir(exist_ok=True)
    (root / "etc/systemd/network/10-fleet.network").write_text(f"[Match]\nName=host0\n[Network]\nAddress={made.address(name)}/24\n")
    # Its own, so that what the host installs as /etc/hosts or hostname does not matter.
    (root / "etc/hostname").write_text(f"{name}\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n" + "".join(f"{made.address(other)} {other}\n" for other in made.hosts))
    for words in (["systemctl", "enable", "--quiet", "systemd-networkd", "ssh"], ["useradd", "--create-home", "--shell", "/bin/bash", USER]):
        subprocess.run(["chroot", str(root), *words], check=True, capture_output=True, timeout=COMMAND_S)
    home = root / "home" / USER
    (home / ".ssh").mkdir(mode=0o700)
    (home / ".ssh/authorized_keys").write_text((made.work / "key.pub").read_text())
    owner = home.stat()
    for path in (home / ".ssh", home / ".ssh/authorized_keys"):
        os.chown(path, owner.st_uid, owner.st_gid)
    (root / "etc/sudoers.d/deploy").write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
    (root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] {URL}/debian ./\n" if (made.served / "debian").exists() else "")
    # The host is thrown away: nothing on it needs to survive a power failure.
    (root / "etc/dpkg/dpkg.cfg.d/unsafe-io").write_text("force-unsafe-io\n")


def _write_ssh_config(made: Fleet) -> None:
    connect = shlex.join(made.inside(sys.executable, "-c", _CONNECT))
    # Ssh replaces %h and %p, and hands the rest to a shell.
    made.ssh_config.write_text(
        f"Host *\n  User {USER}\n  IdentityFile {made.work}/key\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n"
        f"  LogLevel ERROR\n  ProxyUseFdpass yes\n  ProxyCommand {connect} %h %p\n"
    )


def _server(stack: contextlib.ExitStack, made: Fleet) -> None:
    repository = pathlib.Path(__file__).resolve().parents[2]
    environ = {**os.environ, "PYTHONPATH": str(repository)}
    process = subprocess.Popen(made.inside(sys.executable, "-c", _SERVE, str(made.served)), env=environ, stdin=subprocess.DEVNULL, start_new_session=True)

    def end() -> None:
        process.terminate()
        process.wait(timeout=COMMAND_S)

    stack.callback(end)
    ready = f"import socket; socket.create_connection(('{NETWORK}.1', {PORT}), 1)"
    deadline = time.monotonic() + COMMAND_S
    while time.monotonic() < deadline:
        if subprocess.run(made.inside(sys.executable, "-c", ready), capture_output=True, timeout=COMMAND_S, check=False).returncode == 0:
            return
        time.sleep(0.1)
    raise HostUnavailable("the HTTP server of the fleet did not come up")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, also as a proxy does that has them already: then the whole address comes as the path."""

    def translate_path(self, path: str) -> str:
        return super().translate_path(urllib.parse.urlsplit(path).path)

    def log_message(self, format: str, *args: t.Any) -> None:
        with open(f"{self.directory}/.requests", "a", encoding="utf-8") as stream:
            stream.write(f"{self.client_address[0]} {format % args}\n")


def serve(directory: str) -> None:
    """Runs in the fleet's network, until it is ended. What was asked for stands in C(.requests)."""
    with http.server.ThreadingHTTPServer((f"{NETWORK}.1", PORT), functools.partial(_Quiet, directory=directory)) as server:
        server.serve_forever()
