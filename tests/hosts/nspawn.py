# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host booted with systemd, for tests: systemd-nspawn --boot on a debootstrapped Debian, thrown away afterwards.

    with systemd_host() as host:
        host.run(["systemctl", "is-system-running"])

The tree is made once (about 45 s) and kept in UNKEY_VMCP_TEST_CACHE, or in a directory of the user's below the temporary directory; each host is an
overlay on it. The checkout, this Python and the VMMs on PATH are there read-only under the same paths as here. The machine under the test needs no
systemd of its own: commands enter by nsenter.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import typing as t

from ansible_collections.unkey.vmcp.tests.kept import alone

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
# Another one, as trixie, is for a look by hand: UNKEY_VMCP_TEST_SUITE=trixie ./test molecule
SUITE = os.environ.get("UNKEY_VMCP_TEST_SUITE") or "bookworm"
PACKAGES = ("systemd", "systemd-sysv", "dbus", "iproute2", "acl", "procps", "util-linux", "python3")
VMMS = ("firecracker", "jailer", "cloud-hypervisor", "ch-remote")
DEVICES = ("/dev/kvm", "/dev/net/tun")
BOOT_TIMEOUT_S = 400.0


class HostUnavailable(Exception):
    """No such host can be made here; the text is the true reason, for pytest.skip."""


class Host:
    """A booted host. C(root): its file system, seen from outside."""

    def __init__(self, command: t.Sequence[str], root: pathlib.Path, log: pathlib.Path, connect: t.Callable[[], None] | None = None) -> None:
        """C(connect): called each time after it was switched on, before it is up (its network cables end with it)."""
        self._command = list(command)
        self._connect = connect
        self._process: subprocess.Popen[bytes] | None = None
        self.root = root
        self.log = log

    @property
    def leader(self) -> int:
        """Pid of its init, seen from here; it changes when the host reboots."""
        for entry in os.listdir("/proc") if self._process is not None else []:
            if entry.isdigit() and _parent(int(entry)) == self._process.pid and _is_elsewhere(int(entry)):
                return int(entry)
        raise AssertionError(f"the host has no init (any more):\n{self.log.read_text(errors='replace')}")

    def enter(self) -> list[str]:
        """Words before a command that is to run on the host."""
        return ["nsenter", "--target", str(self.leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--"]

    def run(
        self, argv: t.Sequence[str], *, timeout_s: float = 120.0, check: bool = True, environ: t.Mapping[str, str] | None = None, text_in: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command as the host's root, in /. With C(check) a failure is an AssertionError with what it said."""
        variables = {"PATH": os.environ["PATH"] + ":/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", **(environ or {})}
        words = [*self.enter(), "env", "-i"]
        words += [f"{key}={value}" for key, value in variables.items()]
        done = subprocess.run([*words, *argv], input=text_in, capture_output=True, text=True, timeout=timeout_s, check=False, errors="replace")
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def python(self, argv: t.Sequence[str], **options: t.Any) -> subprocess.CompletedProcess[str]:
        """As C(run), by the Python of the tests, with the checkout importable."""
        environ = {"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1", **options.pop("environ", {})}
        return self.run([sys.executable, *argv], environ=environ, **options)

    def boot(self, wait: bool = True) -> None:
        with self.log.open("wb") as stream:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True)
        if self._connect is not None:
            self._connect()
        if wait:
            self.wait_booted()

    def power_off(self) -> None:
        """The orderly way: services are stopped. TERM to systemd-nspawn says the same; what hangs is killed."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=BOOT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=60)
            raise AssertionError(f"the host did not power off:\n{self.log.read_text(errors='replace')}") from None
        finally:
            self._process = None

    def crash(self) -> None:
        """As when the power fails: nothing is stopped in order. The host can be booted again."""
        assert self._process is not None
        os.kill(self.leader, signal.SIGKILL)
        self._process.wait(timeout=60)
        self._process = None

    def reboot(self) -> None:
        """Off and on again: a new boot id, an empty /run. (systemd-nspawn's own reboot needs a /run on tmpfs on the machine under it.)"""
        self.power_off()
        self.boot()

    def wait_booted(self) -> None:
        """Until systemd says that all is started; C(degraded) (something failed) will do."""
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        state = "not there"
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise HostUnavailable(f"systemd-nspawn ended: {self.log.read_text(errors='replace').strip()[-500:]}")
            # No init yet, or one that does not get around to answering.
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                state = self.run(["systemctl", "is-system-running"], check=False, timeout_s=60).stdout.strip()
                if state in ("running", "degraded"):
                    return
            time.sleep(0.1)
        raise HostUnavailable(f"the host did not boot within {BOOT_TIMEOUT_S:.0f} s, it is {state!r}: {self.log.read_text(errors='replace').strip()[-500:]}")


@contextlib.contextmanager
def systemd_host(*, packages: t.Sequence[str] = (), binds: t.Sequence[pathlib.Path] = ()) -> t.Iterator[Host]:
    """A fresh host. C(packages): Debian's, beside those above. C(binds): more of this machine, read-only. HostUnavailable says why there can be none."""
    check_possible()
    with contextlib.ExitStack() as stack:
        host = made_host(stack, base_tree(packages), ["--private-network", *(f"--bind-ro={path}" for path in shared(binds))])
        host.boot()
        yield host


def made_host(stack: contextlib.ExitStack, tree: pathlib.Path, options: t.Sequence[str], connect: t.Callable[[], None] | None = None) -> Host:
    """A host on its own overlay of the tree, not booted yet; C(stack) ends and removes it. C(options): systemd-nspawn's, its network among them."""
    top = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vmcp-host-")))
    root = stack.enter_context(_overlay(tree, top))
    command = [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        f"--directory={root}",
        f"--machine={top.name.replace('_', '-').rstrip('-')}",
        "--register=no",
        "--keep-unit",
        "--console=pipe",
        # Real hosts have it, and containers of this version of systemd do not: Cloud Hypervisor's sandbox.
        "--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self",
        *(f"--bind={device}" for device in DEVICES if os.path.exists(device)),
        *options,
    ]
    host = Host(command, root, top / "console", connect)
    stack.callback(host.power_off)
    return host


def base_tree(packages: t.Sequence[str] = ()) -> pathlib.Path:
    """The debootstrapped tree with these packages, made when it is not there."""
    wanted = sorted({*PACKAGES, *packages})
    cache = pathlib.Path(os.environ.get("UNKEY_VMCP_TEST_CACHE") or pathlib.Path(tempfile.gettempdir(), f"vmcp-test-cache-{os.getuid()}"))
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    if cache.stat().st_uid != os.getuid():
        raise HostUnavailable(f"{cache} belongs to somebody else; set UNKEY_VMCP_TEST_CACHE to a directory of your own")
    tree = cache / f"{SUITE}-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:12]}"
    with alone(cache):
        if not tree.exists():
            _make_tree(tree, wanted)
    return tree


def _make_tree(tree: pathlib.Path, wanted: t.Sequence[str]) -> None:
    print(f"making a Debian tree in {tree} (once, about a minute)", file=sys.stderr, flush=True)
    unfinished = pathlib.Path(tempfile.mkdtemp(prefix="unfinished-", dir=tree.parent))
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(wanted)}", SUITE, str(unfinished)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False, errors="replace")
    if done.returncode != 0:
        shutil.rmtree(unfinished)
        raise HostUnavailable(f"debootstrap failed (is Debian's mirror reachable?): {(done.stderr or done.stdout).strip()[-300:]}")
    unfinished.chmod(0o755)
    unfinished.rename(tree)


def check_possible() -> None:
    if os.geteuid() != 0:
        raise HostUnavailable("systemd-nspawn needs root")
    for program, package in (("systemd-nspawn", "systemd-container"), ("debootstrap", "debootstrap"), ("nsenter", "util-linux")):
        if shutil.which(program) is None:
            raise HostUnavailable(f"{program} is not installed (package {package})")


@contextlib.contextmanager
def _overlay(lower: pathlib.Path, top: pathlib.Path) -> t.Iterator[pathlib.Path]:
    for name in ("upper", "work", "root"):
        (top / name).mkdir()
    options = f"lowerdir={lower},upperdir={top}/upper,workdir={top}/work"
    done = subprocess.run(["mount", "-t", "overlay", "-o", options, "vmcp-host", str(top / "root")], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise HostUnavailable(f"no overlay can be mounted in {top}: {done.stderr.strip()}")
    try:
        yield top / "root"
    finally:
        subprocess.run(["umount", "--lazy", str(top / "root")], capture_output=True, timeout=120, check=True)


def shared(paths: t.Iterable[pathlib.Path] = ()) -> list[pathlib.Path]:
    """These, the checkout, the Python of the tests (all that its links lead to) and the VMMs on PATH; not what the host has of its own below /usr."""
    found = [*paths, REPOSITORY, pathlib.Path(sys.prefix), pathlib.Path(sys.base_prefix)]
    found += [pathlib.Path(binary).resolve().parent for name in VMMS if (binary := shutil.which(name))]
    outside = {path for path in found if not path.is_relative_to("/usr") and path != pathlib.Path("/")}
    return sorted(path for path in outside if not any(path != other and path.is_relative_to(other) for other in outside))


def _is_elsewhere(pid: int) -> bool:
    """Whether a process is in a pid namespace of its own: not yet so is the one by which systemd-nspawn starts the init."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
    except (FileNotFoundError, ProcessLookupError):
        return False


def _parent(pid: int) -> int:
    try:
        return int(pathlib.Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
