# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Written by tools/generate.py from model/config.py: do not edit.

The configuration tree as plain data, for code that has to do without pydantic: C(leaf)s with their defaults, C(tree)s (C(optional): null unless
given), and C(list)s of trees.
"""

from __future__ import annotations

import typing as t

SHAPE: dict[str, dict[str, t.Any]] = {
    "cpu": {
        "kind": "tree",
        "optional": False,
        "fields": {
            "vcpu_count": {"kind": "leaf", "default": 1},
            "max_vcpu_count": {"kind": "leaf", "default": None},
            "topology": {
                "kind": "tree",
                "optional": True,
                "fields": {
                    "threads_per_core": {"kind": "leaf", "default": 1},
                    "cores_per_die": {"kind": "leaf", "default": 1},
                    "dies_per_package": {"kind": "leaf", "default": 1},
                    "packages": {"kind": "leaf", "default": 1},
                },
            },
            "affinity": {
                "kind": "list",
                "fields": {
                    "vcpu": {"kind": "leaf", "required": True},
                    "host_cpus": {"kind": "leaf", "required": True},
                },
            },
            "features": {
                "kind": "tree",
                "optional": True,
                "fields": {
                    "amx": {"kind": "leaf", "default": None},
                },
            },
            "nested": {"kind": "leaf", "default": None},
            "template": {"kind": "leaf", "default": None},
        },
    },
    "memory": {
        "kind": "tree",
        "optional": False,
        "fields": {
            "size_bytes": {"kind": "leaf", "default": 536870912},
            "max_size_bytes": {"kind": "leaf", "default": None},
            "hugepages": {"kind": "leaf", "default": False},
            "hugepage_size_bytes": {"kind": "leaf", "default": None},
            "shared": {"kind": "leaf", "default": False},
            "mergeable": {"kind": "leaf", "default": False},
            "prefault": {"kind": "leaf", "default": False},
            "zones": {
                "kind": "list",
                "fields": {
                    "id": {"kind": "leaf", "required": True},
                    "size_bytes": {"kind": "leaf", "required": True},
                    "host_numa_node": {"kind": "leaf", "default": None},
                    "hugepages": {"kind": "leaf", "default": False},
                    "hugepage_size_bytes": {"kind": "leaf", "default": None},
                    "shared": {"kind": "leaf", "default": False},
                    "mergeable": {"kind": "leaf", "default": False},
                    "prefault": {"kind": "leaf", "default": False},
                },
            },
            "balloon": {
                "kind": "tree",
                "optional": True,
                "fields": {
                    "size_bytes": {"kind": "leaf", "default": 0},
                    "deflate_on_oom": {"kind": "leaf", "default": False},
                    "free_page_reporting": {"kind": "leaf", "default": False},
                },
            },
        },
    },
    "boot": {
        "kind": "tree",
        "optional": False,
        "fields": {
            "kernel_path": {"kind": "leaf", "default": None},
            "initrd_path": {"kind": "leaf", "default": None},
            "kernel_args": {"kind": "leaf", "default": None},
            "firmware_path": {"kind": "leaf", "default": None},
            "igvm_path": {"kind": "leaf", "default": None},
        },
    },
    "storage": {
        "kind": "list",
        "fields": {
            "path": {"kind": "leaf", "default": None},
            "read_only": {"kind": "leaf", "default": False},
            "is_root_device": {"kind": "leaf", "default": False},
            "id": {"kind": "leaf", "default": None},
            "format": {"kind": "leaf", "default": None},
            "direct_io": {"kind": "leaf", "default": False},
            "io_engine": {"kind": "leaf", "default": None},
            "serial": {"kind": "leaf", "default": None},
            "num_queues": {"kind": "leaf", "default": None},
            "queue_size": {"kind": "leaf", "default": None},
            "rate_limit": {
                "kind": "tree",
                "optional": True,
                "fields": {
                    "bandwidth": {
                        "kind": "tree",
                        "optional": True,
                        "fields": {
                            "size": {"kind": "leaf", "required": True},
                            "refill_ms": {"kind": "leaf", "required": True},
                            "burst": {"kind": "leaf", "default": 0},
                        },
                    },
                    "ops": {
                        "kind": "tree",
                        "optional": True,
                        "fields": {
                            "size": {"kind": "leaf", "required": True},
                            "refill_ms": {"kind": "leaf", "required": True},
                            "burst": {"kind": "leaf", "default": 0},
                        },
                    },
                },
            },
            "vhost_user_socket": {"kind": "leaf", "default": None},
        },
    },
    "network": {
        "kind": "list",
        "fields": {
            "id": {"kind": "leaf", "default": None},
            "tap_device": {"kind": "leaf", "default": None},
            "mac_address": {"kind": "leaf", "default": None},
            "mtu": {"kind": "leaf", "default": None},
            "num_queues": {"kind": "leaf", "default": None},
            "queue_size": {"kind": "leaf", "default": None},
            "rate_limit_rx": {
                "kind": "tree",
                "optional": True,
                "fields": {
                    "bandwidth": {
                        "kind": "tree",
                        "optional": True,
                        "fields": {
                            "size": {"kind": "leaf", "required": True},
                            "refill_ms": {"kind": "leaf", "required": True},
                            "burst": {"kind": "leaf", "default": 0},
                        },
                    },
                    "ops": {
                        "kind": "tree",
                        "optional": True,
                        "fields": {
                            "size": {"kind": "leaf", "required": True},
                            "refill_ms": {"kind": "leaf", "required": True},
                            "burst": {"kind": "leaf", "default": 0},
                        },
                    },
                },
            },
            "rate_limit_tx": {
                "kind": "tree",
                "optional": True,
                "fields": {
                    "bandwidth": {
                        "kind": "tree",
                        "optional": True,
                        "fields": {
                            "size": {"kind": "leaf", "required": True},
                            "refill_ms": {"kind": "leaf", "required": True},
                            "burst": {"kind": "leaf", "default": 0},
                        },
                    },
                    "ops": {
                        "kind": "tree",
                        "optional": True,
                        "fields": {
                            "size": {"kind": "leaf", "required": True},
                            "refill_ms": {"kind": "leaf", "required": True},
                            "burst": {"kind": "leaf", "default": 0},
                        },
                    },
                },
            },
            "vhost_user_socket": {"kind": "leaf", "default": None},
        },
    },
    "console": {
        "kind": "tree",
        "optional": False,
        "fields": {
            "enabled": {"kind": "leaf", "default": True},
            "output": {"kind": "leaf", "default": "file"},
            "path": {"kind": "leaf", "default": None},
        },
    },
    "rng": {
        "kind": "tree",
        "optional": True,
        "fields": {
            "source": {"kind": "leaf", "default": "/dev/urandom"},
        },
    },
    "vsock": {
        "kind": "tree",
        "optional": True,
        "fields": {
            "cid": {"kind": "leaf", "default": None},
            "path": {"kind": "leaf", "default": None},
        },
    },
    "watchdog": {"kind": "leaf", "default": None},
    "backend_options": {
        "kind": "tree",
        "optional": False,
        "fields": {
            "cloudhypervisor": {"kind": "leaf", "default": {}},
            "firecracker": {"kind": "leaf", "default": {}},
            "qemu": {
                "kind": "tree",
                "optional": True,
                "fields": {
                    "args": {"kind": "leaf", "default": []},
                    "machine": {"kind": "leaf", "default": {}},
                },
            },
        },
    },
}
