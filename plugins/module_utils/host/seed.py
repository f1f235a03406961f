# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The seed disk of cloud-init's NoCloud source, an ISO file system labelled C(cidata), made in this process. Imported only where one is made."""

from __future__ import annotations

import io
import os
import typing as t

from .. import thirdparty
from ..errors import Internal
from ..model.cloud_init import SEED_FILE
from .files import os_errors, remove
from .trees import name_in

if t.TYPE_CHECKING:
    from .layout import VmLayout


def seed_bytes(files: t.Mapping[str, str]) -> bytes:
    """The whole disk. Names are kept as they are by Rock Ridge and Joliet."""
    library = thirdparty.pycdlib()
    iso = library.PyCdlib()
    try:
        iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident="cidata")
        for name, text in sorted(files.items()):
            body = text.encode()
            short = name.upper().replace("-", "_")
            iso.add_fp(io.BytesIO(body), len(body), f"/{short}.;1", rr_name=name, joliet_path=f"/{name}")
        made = io.BytesIO()
        iso.write_fp(made)
        iso.close()
    except library.pycdlibexception.PyCdlibException as exc:
        raise Internal(f"The seed disk could not be made: {type(exc).__name__}.") from exc
    return made.getvalue()


def write_seed(vm: VmLayout, body: bytes, uid: t.Optional[int], *, sync: bool) -> None:
    """In the VM's data, readable by its uid alone. Made where only root writes, and then given its name: a VM that runs keeps the one that it has."""
    temporary = f"{vm.dir}/.{SEED_FILE}.new"
    with os_errors(f"write {vm.data}/{SEED_FILE}"):
        remove(temporary)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o400)
        try:
            with os.fdopen(fd, "wb", closefd=False) as stream:
                stream.write(body)
            if uid is not None:
                os.fchown(fd, uid, uid)
            if sync:
                os.fsync(fd)
        except OSError:
            remove(temporary)
            raise
        finally:
            os.close(fd)
        name_in(vm.data, temporary, SEED_FILE, sync)
