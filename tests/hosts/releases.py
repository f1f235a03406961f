# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for the servers that VMMs are released on: files of the right names, layout and digests, for a plain HTTP server.

What is in them: the real programs where they are on PATH (with the version in them changed to the one asked for, which has as many letters), else
stubs: of Firecracker one that runs VMs that are none (tests/fakes), of the others what knows its version and nothing more.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import tarfile
import typing as t
import zipfile

ARCHITECTURE = os.uname().machine
# A shell's script that is a zip archive too, of the fake and what it imports: hosts have neither the checkout nor a Python of ours. The shell answers for
# the version, which is asked with every task.
_STUB = """#!/bin/sh
if [ "$*" = --version ]; then echo '{says}'; exit; fi
FAKE_VMM_VERSION={version} exec python3 "$0" "$@"
"""
_MAIN = "import os, sys\nfrom {package}.firecracker import main\ncode = main(sys.argv[1:])\nsys.stdout.flush()\nos._exit(code)\n"
_FAKES = pathlib.Path(__file__).resolve().parents[1] / "fakes"
_SAYS = {"firecracker": "Firecracker v{}", "jailer": "Jailer v{}", "cloud-hypervisor": "cloud-hypervisor v{}.0", "ch-remote": "ch-remote v{}.0"}
Digests = dict[str, dict[str, str]]


def is_real(name: str) -> bool:
    return shutil.which(name) is not None


def running_stub(version: str) -> bytes:
    """A C(firecracker) in one file that says it is of C(version), and runs what is no VM: tests/fakes/firecracker.py."""
    package = ["ansible_collections", "unkey", "vmcp", "tests", "fakes"]
    files = {"__main__.py": _MAIN.format(package=".".join(package))}
    files |= {"/".join([*package[: depth + 1], "__init__.py"]): "" for depth in range(len(package))}
    for file in (*_FAKES.glob("firecracker*.py"), _FAKES / "micro_http.py", _FAKES / "openapi.py"):
        files["/".join([*package, file.name])] = file.read_text(encoding="utf-8")
    packed = io.BytesIO(_STUB.format(says=_SAYS["firecracker"].format(version), version=version).encode())
    with zipfile.ZipFile(packed, "a") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return packed.getvalue()


def program(name: str, version: str, *, stub: bool = False) -> bytes:
    """The program C(name) saying that it is of C(version)."""
    path = shutil.which(name)
    if stub or path is None:
        says = _SAYS[name].format(version)
        return running_stub(version) if name == "firecracker" and not stub else f"#!/bin/sh\necho '{says}'\n".encode()
    said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=120, check=True).stdout
    match = re.search(r"v(\d+\.\d+(?:\.\d+)?)", said)
    assert match, f"{path} does not say its version: {said!r}"
    own = match[1] if name in ("firecracker", "jailer") else match[1].rpartition(".")[0]
    assert len(own) == len(version), f"{path} is of version {own}, which cannot be made to look like {version}"
    return pathlib.Path(path).read_bytes().replace(own.encode(), version.encode())


class Releases:
    """Below C(top)/firecracker, C(top)/cloud-hypervisor and C(top)/firmware: TAG/ASSET, as upstream has them."""

    def __init__(self, top: pathlib.Path) -> None:
        self.top = top
        self.firecracker_digests: Digests = {}
        self.cloudhypervisor_digests: Digests = {}
        self.firmware_digests: Digests = {}

    def firecracker(
        self,
        version: str,
        *,
        stub: bool = False,
        says: str = "",
        bodies: t.Mapping[str, bytes] | None = None,
        links: t.Mapping[str, str] | None = None,
        replaced: t.Mapping[str, bytes] | None = None,
    ) -> pathlib.Path:
        """C(says): the version that the programs are of. C(bodies), C(links): programs that are something else, or links. C(replaced): contents of
        members after the archive's own list was made."""
        build = f"v{version}-{ARCHITECTURE}"
        programs = {name: program(name, says or version, stub=stub) for name in ("firecracker", "jailer")} | dict(bodies or {})
        members = {f"{name}-{build}": body for name, body in programs.items()}
        members |= {f"firecracker-{build}.debug": b"symbols", f"seccompiler-bin-{build}": b"#!/bin/sh\n"}
        sums = "".join(f"{hashlib.sha256(body).hexdigest()}  ./{name}\n" for name, body in members.items()) + f"{'0' * 64}  ./T2-v{version}.json\n"
        members |= {**(replaced or {}), "LICENSE": b"Apache-2.0\n", "SHA256SUMS": sums.encode()}
        asset = self.top / "firecracker" / f"v{version}" / f"firecracker-{build}.tgz"
        asset.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(asset, "w:gz", compresslevel=1) as tar:
            for name, body in members.items():
                member = tarfile.TarInfo(f"release-{build}/{name}")
                member.size, member.mode = len(body), 0o755
                if target := (links or {}).get(name.removesuffix(f"-{build}")):
                    member.type, member.linkname, member.size = tarfile.SYMTYPE, target, 0
                tar.addfile(member, io.BytesIO(body))
        found = hashlib.sha256(asset.read_bytes()).hexdigest()
        asset.with_name(f"{asset.name}.sha256.txt").write_text(f"{found}  {asset.name}\n")
        self.firecracker_digests.setdefault(version, {})[asset.name] = found
        return asset

    def cloudhypervisor(self, version: str, *, stub: bool = False) -> pathlib.Path:
        """The directory of the release."""
        suffix = "" if ARCHITECTURE == "x86_64" else f"-{ARCHITECTURE}"
        directory = self.top / "cloud-hypervisor" / f"v{version}"
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("cloud-hypervisor", "ch-remote"):
            body = program(name, version, stub=stub)
            (directory / f"{name}-static{suffix}").write_bytes(body)
            self.cloudhypervisor_digests.setdefault(version, {})[f"{name}-static{suffix}"] = hashlib.sha256(body).hexdigest()
        return directory

    def firmware(self, version: str = "0.5.0", body: bytes = b"\x7fELF firmware", *, kind: str = "hypervisor-fw") -> pathlib.Path:
        """C(kind): as the role's option C(vmcp_cloudhypervisor_firmware)."""
        named = {"hypervisor-fw": ("hypervisor-fw", f"hypervisor-fw-{ARCHITECTURE}"), "edk2": ("CLOUDHV.fd", "CLOUDHV_EFI.fd")}
        asset = self.top / "firmware" / version / named[kind][ARCHITECTURE != "x86_64"]
        asset.parent.mkdir(parents=True, exist_ok=True)
        asset.write_bytes(body)
        self.firmware_digests.setdefault(version, {})[asset.name] = hashlib.sha256(body).hexdigest()
        return asset

    def variables(self, url: str) -> dict[str, t.Any]:
        """Options of the roles for these releases, served at C(url)."""
        return {
            "vmcp_firecracker_mirror": f"{url}/firecracker",
            "vmcp_firecracker_checksum": self.firecracker_digests,
            "vmcp_cloudhypervisor_mirror": f"{url}/cloud-hypervisor",
            "vmcp_cloudhypervisor_checksum": self.cloudhypervisor_digests,
            "vmcp_cloudhypervisor_firmware_mirror": f"{url}/firmware",
            "vmcp_cloudhypervisor_firmware_checksum": self.firmware_digests,
        }

    def write_variables(self, url: str, path: pathlib.Path, **more: t.Any) -> None:
        path.write_text(json.dumps({**self.variables(url), **more}, indent=2) + "\n")
