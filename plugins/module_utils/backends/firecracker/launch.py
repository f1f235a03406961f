# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a Firecracker process is started: pure, from definition and configuration to a C(LaunchSpec)."""

from __future__ import annotations

import typing as t

from ...capabilities.rules import firecracker_room
from ...errors import FailedPrecondition, InvalidArgument, Violation
from ...model.jsontext import key_a_line
from ..port import Isolation, LaunchSpec, Paths
from ..taps import macs_of, told_by_kernel, told_by_metadata
from . import translate

if t.TYPE_CHECKING:
    from ...host.layout import VmLayout
    from ...model.config import VmConfig
    from ...model.definition import Definition

CONFIG_DOCUMENT = "firecracker.json"
METADATA_DOCUMENT = "metadata.json"
CPU_DOCUMENT = "cpu.json"
LOG_ALIAS = "vmm.log"
API_SOCKET = "api.sock"
# What Firecracker stores of metadata unless it is told a larger limit.
METADATA_BYTES_DEFAULT = 51200

# Ctrl+Alt+Del at host shutdown, when no module is there to ask. No tool of a minimal system speaks to unix sockets, but a managed host has Python.
# The directory belongs to the VM's uid, so a link is not followed; the answer is not waited for longer than an idle VMM needs.
_ASK_TO_STOP = """\
import os, socket, stat, sys
path = sys.argv[1]
if not stat.S_ISSOCK(os.lstat(path).st_mode):
    sys.exit(path + " is not a socket")
body = b'{"action_type":"SendCtrlAltDel"}'
with socket.socket(socket.AF_UNIX) as vmm:
    vmm.settimeout(2)
    vmm.connect(path)
    vmm.sendall(b"PUT /actions HTTP/1.1\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body))
    sys.exit(0 if vmm.recv(12)[9:12] == b"204" else "Firecracker refused")
"""


def wiring(definition: Definition, paths: Paths, metadata: t.Optional[t.Any]) -> translate.Wiring:
    generated = definition.generated
    return translate.Wiring(
        paths=paths, macs=generated.get("macs", {}), taps=generated.get("taps", {}), cid=generated.get("cid"), metadata=metadata is not None
    )


def launch_spec(definition: Definition, config: VmConfig, paths: Paths, isolation: Isolation, layout: VmLayout, metadata: t.Optional[t.Any]) -> LaunchSpec:
    """FailedPrecondition when there is to be a jail and no jailer."""
    if config.vsock is not None and config.vsock.path and (isolation.jail or isolation.uid is not None):
        raise InvalidArgument.of(
            [Violation("config.vsock.path", f"A VM in its sandbox makes its sockets in a directory of its own. Leave it out: it is {layout.vsock_socket}.")]
        )
    given, config = config, told_by_kernel(config, definition.generated, _default_arguments(config))
    _require_room(given, config)
    metadata = _with_addresses(metadata, told_by_metadata(definition.generated, macs_of(config, definition.generated)))
    documents = _documents(translate.document(config, wiring(definition, paths, metadata)), metadata, paths, layout)
    log = f"{paths.documents}{LOG_ALIAS}" if paths.documents else layout.vmm_log
    return LaunchSpec(
        argv=(
            definition.binary,
            *_arguments(definition, isolation, {name: _seen(name, paths, layout) for name in documents}, paths, log),
            *_limits(documents),
        ),
        # The last one that it makes: its modes are seen to then, which under the jailer are not what they should be.
        wait_socket=f"vmm/{translate.VSOCK_SOCKET if config.vsock is not None and not config.vsock.path else API_SOCKET}",
        files=translate.file_uses(config),
        taps=translate.tap_uses(config, definition.generated),
        documents=documents,
        document_uses={name: name for name in documents},
        jailer=_jailer(definition) if isolation.jail else None,
        stdout_is_console=translate.has_console(config),
        stdout_dropped=not translate.has_console(config),
        exit_zero_is_reboot=True,
        stop=("python3", "-I", "-c", _ASK_TO_STOP, f"vmm/{API_SOCKET}"),
        vmm_log_in_sandbox=log,
        devices=("/dev/kvm", *(("/dev/net/tun",) if config.network else ())),
    )


def _default_arguments(config: VmConfig) -> str:
    """What stands in for kernel arguments that nobody gave, where something is to be put behind them."""
    return translate.DEFAULT_KERNEL_ARGS if translate.has_console(config) else translate.QUIET_KERNEL_ARGS


def _require_room(given: VmConfig, told: VmConfig) -> None:
    """What was given fits (the capabilities say so); with an address behind it, it may not."""
    line, room = told.boot.kernel_args or "", firecracker_room(told)
    if line != given.boot.kernel_args and len(line.encode()) > room:
        text = f"has {len(line.encode())} bytes with the address behind it, and Firecracker has room for {room}. Shorten it, or take another address_method."
        raise InvalidArgument.of([Violation("config.boot.kernel_args", text)])


def _with_addresses(metadata: t.Optional[t.Any], interfaces: dict[str, t.Any]) -> t.Optional[t.Any]:
    """The metadata with what the guest is to know of its interfaces under C(vmcp.network); what the user says there is left alone."""
    if not interfaces:
        return metadata
    given = metadata if isinstance(metadata, dict) else {}
    ours = given.get("vmcp", {})
    return {**given, "vmcp": {"network": interfaces, **ours}} if isinstance(ours, dict) else given


def _documents(wire: dict[str, t.Any], metadata: t.Optional[t.Any], paths: Paths, layout: VmLayout) -> dict[str, str]:
    documents = {}
    if isinstance(wire.get("cpu-config"), dict):
        # Inside the configuration file it is understood since 1.13 only, as a file of its own since there have been custom templates.
        documents[CPU_DOCUMENT] = key_a_line(wire["cpu-config"])
        wire = {**wire, "cpu-config": _seen(CPU_DOCUMENT, paths, layout)}
    documents[CONFIG_DOCUMENT] = key_a_line(wire)
    if metadata is not None:
        documents[METADATA_DOCUMENT] = key_a_line(metadata)
    return documents


def _seen(document: str, paths: Paths, layout: VmLayout) -> str:
    """A document's path as the VMM sees it."""
    return f"{paths.documents}{document}" if paths.documents else layout.document(document)


def _arguments(definition: Definition, isolation: Isolation, documents: t.Mapping[str, str], paths: Paths, log: str) -> list[str]:
    words = ["--api-sock", f"{paths.sockets}/{API_SOCKET}"]
    if not isolation.jail:
        # The jailer gives it itself, and Firecracker refuses an argument that comes twice.
        words += ["--id", definition.name]
    # On the command line and not in the document: Firecracker's first lines would go to stdout, which is the guest's console.
    # At level Info it writes two lines for every request, at Warning one for every port that a guest's driver probes: both would fill the log.
    words += ["--log-path", log, "--level", "Error", "--config-file", documents[CONFIG_DOCUMENT]]
    if METADATA_DOCUMENT in documents:
        words += ["--metadata", documents[METADATA_DOCUMENT]]
    if not isolation.seccomp:
        words += ["--no-seccomp"]
    return words


def _limits(documents: t.Mapping[str, str]) -> list[str]:
    size = len(documents.get(METADATA_DOCUMENT, "").encode())
    return ["--mmds-size-limit", str(size)] if size > METADATA_BYTES_DEFAULT else []


def _jailer(definition: Definition) -> str:
    jailer = definition.helpers.get("jailer")
    if not jailer:
        raise FailedPrecondition(
            f"There is no jailer for Firecracker {definition.backend_version}. Install the one of its release archive beside it "
            "(the role unkey.vmcp.vmcp_firecracker does), or run the VM without: security: {jail: false}."
        )
    return jailer
