# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of the playbooks: one row each, with what it has to be. docs/fleets.md describes them; a test holds the two together."""

from __future__ import annotations

import collections.abc
import dataclasses
import difflib
import re
import typing as t

from ..module_utils.argument_specs import HOST, IMAGE, LOCK, NETWORK
from ..module_utils.errors import Violation
from ..module_utils.model.words import BACKEND_CHOICES, BACKENDS, NAME_PATTERN, NAME_RULE

# What an action plugin tells its own module.
INTERNAL = {"uploaded"}


def _dict(value: t.Any) -> str:
    return "" if isinstance(value, collections.abc.Mapping) else "must be a dictionary."


def _is_list(value: t.Any) -> bool:
    return isinstance(value, collections.abc.Sequence) and not isinstance(value, (str, bytes))


def _entries(value: t.Any) -> str:
    return "" if isinstance(value, collections.abc.Mapping) or _is_list(value) else "must be a list of entries, or a dictionary of name to entry."


def _dicts(value: t.Any) -> str:
    return "" if _is_list(value) and all(isinstance(item, collections.abc.Mapping) for item in value) else "must be a list of dictionaries."


def _options_of(module: str, spec: t.Mapping[str, t.Any]) -> t.Callable[[t.Any], str]:
    """A list of tasks of the module, as dictionaries of its options."""
    known = {*spec, *HOST, *LOCK} - INTERNAL

    def check(value: t.Any) -> str:
        if wrong := _dicts(value):
            return wrong
        for number, item in enumerate(value):
            which = f"has in its entry {number} ({item.get('name') or 'without a name'})"
            for option in sorted(str(key) for key in item if key not in known):
                near = difflib.get_close_matches(option, known, 1, 0.6)
                return f"{which} {option}, which is no option of {module}.{f' Did you mean {near[0]}?' if near else ''}"
            if item.get("name") in (None, ""):
                return f"{which} no name."
        return ""

    return check


def _texts(value: t.Any) -> str:
    listed = [value] if isinstance(value, str) else value
    return "" if _is_list(listed) and all(isinstance(item, str) and item for item in listed) else "must be a text or a list of texts."


def _text(value: t.Any) -> str:
    return "" if isinstance(value, str) and value else "must be a text."


def _version(value: t.Any) -> str:
    return "must be text: quote it in YAML, or 1.10 becomes 1.1." if isinstance(value, (int, float)) else _text(value)


def _path(value: t.Any) -> str:
    return "" if isinstance(value, str) and value.startswith("/") else "must be an absolute path."


def _flag(value: t.Any) -> str:
    words = ("true", "false", "yes", "no", "on", "off", "1", "0")
    return "" if isinstance(value, bool) or str(value).strip().lower() in words else "must be true or false."


def _whole(least: int) -> t.Callable[[t.Any], str]:
    def check(value: t.Any) -> str:
        whole = not isinstance(value, bool) and re.fullmatch(r"[0-9]{1,9}", str(value))
        return "" if whole and int(value) >= least else f"must be a whole number, {least} or more."

    return check


def _share(value: t.Any) -> str:
    return "" if not isinstance(value, bool) and re.fullmatch(r"[0-9]{1,9}|[0-9]{1,3}%", str(value)) else "must be a number, or a share as in 10%."


def _url(value: t.Any) -> str:
    return "" if isinstance(value, str) and re.fullmatch(r"https?://\S+", value) else "must be a URL, as in https://example.org/vms."


def _yes(value: t.Any) -> str:
    return "" if str(value).lower() in ("yes", "true", "no", "false") else "must be yes, or be left out to be asked."


def _name(value: t.Any) -> str:
    return "" if isinstance(value, str) and re.fullmatch(NAME_PATTERN, value) else f"must be {NAME_RULE}."


def _choice(words: t.Sequence[str]) -> t.Callable[[t.Any], str]:
    return lambda value: "" if value in words else f"must be one of {', '.join(words)}."


def _backends(value: t.Any) -> str:
    wrong = _texts(value)
    listed = [value] if isinstance(value, str) else value
    return wrong or ("" if set(listed) <= set(BACKENDS) else f"must be some of {', '.join(BACKENDS)}.")


@dataclasses.dataclass(frozen=True)
class Variable:
    """C(check) gives what is wrong with a value, as the rest of a sentence, or an empty text. C(required): in these playbooks."""

    check: t.Callable[[t.Any], str]
    required: tuple[str, ...] = ()
    remedy: str = ""


VARIABLES: dict[str, Variable] = {
    # of all playbooks
    "vmcp_hosts": Variable(_texts),
    "vmcp_state_dir": Variable(_path),
    "vmcp_run_dir": Variable(_path),
    "vmcp_lock_timeout": Variable(_whole(0)),
    # of hosts
    "vmcp_backends": Variable(_backends),
    "vmcp_kernels": Variable(_flag),
    "vmcp_hardening": Variable(_flag),
    "vmcp_networks": Variable(_options_of("vmcp_network", NETWORK)),
    "vmcp_images": Variable(_options_of("vmcp_image", IMAGE)),
    "vmcp_vms": Variable(_entries),
    "vmcp_vm_defaults": Variable(_dict),
    "vmcp_vm_secrets": Variable(_dict),
    "vmcp_vm_prune": Variable(_dict),
    "vmcp_vm_overcommit": Variable(_flag),
    "vmcp_vm_start_batch": Variable(_whole(1)),
    "vmcp_vm_wait_timeout": Variable(_whole(0)),
    # of the fleet
    "vmcp_fleet": Variable(_entries),
    "vmcp_fleet_defaults": Variable(_dict),
    "vmcp_fleet_secrets": Variable(_dict),
    "vmcp_fleet_name": Variable(_name),
    "vmcp_fleet_group": Variable(_text),
    "vmcp_fleet_member": Variable(_flag),
    "vmcp_fleet_keepers": Variable(_texts),
    "vmcp_fleet_prune": Variable(_flag),
    "vmcp_fleet_prune_max": Variable(_share),
    "vmcp_fenced_hosts": Variable(_texts),
    "vmcp_host_labels": Variable(_dict),
    "vmcp_host_capacity": Variable(_dict),
    "vmcp_placement_moves": Variable(_flag),
    # of single playbooks
    "vmcp_preflight_strict": Variable(_flag),
    "vmcp_upgrade_backend": Variable(_choice(BACKENDS)),
    "vmcp_upgrade_version": Variable(_version),
    "vmcp_upgrade_kernel": Variable(_path),
    "vmcp_upgrade_initrd": Variable(_path),
    "vmcp_upgrade_vms": Variable(_texts),
    "vmcp_upgrade_install": Variable(_flag),
    "vmcp_upgrade_serial": Variable(_share),
    "vmcp_upgrade_batch": Variable(_whole(1)),
    "vmcp_upgrade_wait_for": Variable(_dicts),
    "vmcp_upgrade_wait_timeout": Variable(_whole(1)),
    "vmcp_upgrade_settle": Variable(_whole(0)),
    "vmcp_upgrade_shutdown_timeout": Variable(_whole(0)),
    "vmcp_drain_hosts": Variable(_texts, ("drain", "undrain"), "Say which hosts, as in -e vmcp_drain_hosts=node3."),
    "vmcp_drain_reason": Variable(_text),
    "vmcp_drain_shutdown_timeout": Variable(_whole(0)),
    "vmcp_drain_wait_timeout": Variable(_whole(1)),
    "vmcp_drain_shared_paths": Variable(_texts),
    "vmcp_drain_spool": Variable(_path),
    "vmcp_undrain_return": Variable(_flag),
    "vmcp_replace_host": Variable(_text, ("replace_backend",), "Say on which host, as in -e vmcp_replace_host=node1."),
    "vmcp_replace_vm": Variable(_name, ("replace_backend",), "Say which VM, as in -e vmcp_replace_vm=web."),
    "vmcp_replace_backend": Variable(_choice(BACKEND_CHOICES[:-1]), ("replace_backend",), "Say to which backend, as in -e vmcp_replace_backend=firecracker."),
    "vmcp_replace_step": Variable(
        _choice(("create", "move", "switch", "commit", "abort")), ("replace_backend",), "Say which step, as in -e vmcp_replace_step=create."
    ),
    "vmcp_replace_new_name": Variable(_name),
    "vmcp_replace_config": Variable(_dict),
    "vmcp_replace_wait_for": Variable(_dicts),
    "vmcp_replace_wait_timeout": Variable(_whole(1)),
    "vmcp_replace_shutdown_timeout": Variable(_whole(0)),
    "vmcp_verify_settle": Variable(_whole(0)),
    "vmcp_publish_file": Variable(_path),
    "vmcp_publish_url": Variable(_url),
    "vmcp_publish_token": Variable(_text),
    "vmcp_site": Variable(_dict, ("rollback",), "It is what a run of unkey.vmcp.site hands on (set_stats), for a workflow to give to this playbook."),
    "vmcp_teardown_confirmed": Variable(_yes),
    "vmcp_teardown_shutdown_timeout": Variable(_whole(0)),
    "vmcp_teardown_keep_binaries": Variable(_flag),
}
# Names that begin so are ours alone: one that is not above is a slip.
_OURS = re.compile(
    r"vmcp_(?:vms?_|vms$|fleet|fence|placement_|preflight_|upgrade_|drain_|undrain_|replace_|teardown_|verify_|publish_|networks$|images$|backends$)"
)


def violations(given: t.Mapping[str, t.Any], playbook: str) -> list[Violation]:
    """Everything that is wrong with the variables C(given), by name. A null counts as not given, and so does the empty text of a survey's open question."""
    found = []
    for name, value in sorted(given.items()):
        known = VARIABLES.get(name)
        if known is None:
            if _OURS.match(name) and "__" not in name:
                near = difflib.get_close_matches(name, VARIABLES, 1, 0.6)
                found.append(Violation(name, f"is no variable of these playbooks.{f' Did you mean {near[0]}?' if near else ''}"))
        elif value not in (None, "") and (wrong := known.check(value)):
            found.append(Violation(name, wrong))
    found += [Violation(name, f"is required. {row.remedy}") for name, row in VARIABLES.items() if playbook in row.required and given.get(name) in (None, "")]
    if playbook == "upgrade":
        found += _of_upgrade(given)
    return sorted(found, key=lambda violation: violation.field)


def _of_upgrade(given: t.Mapping[str, t.Any]) -> t.Iterator[Violation]:
    if not given.get("vmcp_upgrade_version") and not given.get("vmcp_upgrade_kernel"):
        yield Violation("vmcp_upgrade_version", "or vmcp_upgrade_kernel is required: what to upgrade to.")
    if given.get("vmcp_upgrade_version") and not given.get("vmcp_upgrade_backend"):
        yield Violation("vmcp_upgrade_backend", "is required with vmcp_upgrade_version: whose version that is.")
