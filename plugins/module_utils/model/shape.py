# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Written by tools/generate.py from model/config.py: do not edit.

The configuration tree as plain data, for code that has to do without pydantic: C(leaf)s with their defaults and how they are read (C(plain)),
C(tree)s (C(optional): null unless given), and C(list)s of trees.
"""

from __future__ import annotations

import typing as t

SHAPE: dict[str, dict[str, t.Any]] = {
    "cpu": {
        "kind": "tree",
        "optional": False,
        "fields": {
            "vcpu_count": {"kind": "leaf", "default": 1, "read": {"as": "Whole", "ge": 1, "le": 8192}},
            "max_vcpu_count": {"kind": "leaf", "default": None, "read": {"as": "Whole", "ge": 1, "le": 8192}},
            "topology": {
                "kind": "tree",
                "optional": True,
                "fields": {
                    "threads_per_core": {"kind": "leaf", "default": 1, "read": {"as": "Whole", "ge": 1, "le": 2}},
                    "cores_per_die": {"kind": "leaf", "default": 1, "read": {"as": "Whole", "ge": 1, "le": 8192}},
                    "dies_per_package": {"kind": "leaf", "default": 1, "read": {"as": "Whole", "ge": 1, "le": 8192}},
                    "packages": {"kind": "leaf", "default": 1, "read": {"as": "Whole", "ge": 1, "le": 8192}},
                },
            },
            "affinity": {
                "kind": "list",
                "max_length": 8192,
                "fields": {
                    "vcpu": {"kind": "leaf", "required": True, "read": {"as": "Whole", "ge": 0, "le": 8192}},
                    "host_cpus": {
                        "kind": "leaf",
                        "required": True,
                        "read": {"as": "list", "of": {"as": "Whole", "ge": 0, "le": 8192}, "min_length": 1, "max_length": 8192},
                    },
                },
            },
            "features": {
                "kind": "tree",
                "optional": True,
                "fields": {
                    "amx": {"kind": "leaf", "default": None, "read": {"as": "Flag"}},
                },
            },
            "nested": {"kind": "leaf", "default": None, "read": {"as": "Flag"}},
            "template": {"kind": "leaf", "default": None},
        },
    },
    "memory": {
        "kind": "tree",
        "optional": False,
        "fields": {
            "size_bytes": {"kind": "leaf", "default": 536870912, "read": {"as": "Size", "ge": 1048576, "le": 70368744177664}},
            "max_size_bytes": {"kind": "leaf", "default": None, "read": {"as": "Size", "le": 70368744177664}},
            "hugepages": {"kind": "leaf", "default": False, "read": {"as": "Flag"}},
            "hugepage_size_bytes": {"kind": "leaf", "default": None, "read": {"as": "Size", "le": 70368744177664}},
            "shared": {"kind": "leaf", "default": False, "read": {"as": "Flag"}},
            "mergeable": {"kind": "leaf", "default": False, "read": {"as": "Flag"}},
            "prefault": {"kind": "leaf", "default": False, "read": {"as": "Flag"}},
            "zones": {
                "kind": "list",
                "max_length": 256,
                "fields": {
                    "id": {"kind": "leaf", "required": True, "read": {"as": "Identifier"}},
                    "size_bytes": {"kind": "leaf", "required": True, "read": {"as": "Size", "ge": 1048576, "le": 70368744177664}},
                    "host_numa_node": {"kind": "leaf", "default": None, "read": {"as": "Whole", "ge": 0, "le": 1023}},
                    "hugepages": {"kind": "leaf", "default": False, "read": {"as": "Flag"}},
                    "hugepage_size_bytes": {"kind": "leaf", "default": None, "read": {"as": "Size", "le": 70368744177664}},
                    "shared": {"kind": "leaf", "default": False, "read": {"as": "Flag"}},
                    "mergeable": {"kind": "leaf", "default": False, "read": {"as": "Flag"}},
                    "prefault": {"kind": "leaf", "default": False, "read": {"as": "Flag"}},
                },
            },
            "balloon": {
                "kind": "tree",
                "optional": True,
                "fields": {
                    "size_bytes": {"kind": "leaf", "default": 0, "read": {"as": "Size", "le": 70368744177664}},
                    "deflate_on_oom": {"kind": "leaf", "default": False, "read": {"as": "Flag"}},
                    "free_page_reporting": {"kind": "leaf", "default": False, "read": {"as": "Flag"}},
                },
            },
        },
    },
    "boot": {
        "kind": "tree",
        "optional": False,
        "fields": {
            "kernel_path": {"kind": "leaf", "default": None, "read": {"as": "HostPath"}},
            "initrd_path": {"kind": "leaf", "default": None, "read": {"as": "HostPath"}},
            "kernel_args": {"kind": "leaf", "default": None, "read": {"as": "KernelArgs", "max_length": 65535}},
            "firmware_path": {"kind": "leaf", "default": None, "read": {"as": "HostPath"}},
            "igvm_path": {"kind": "leaf", "default": None, "read": {"as": "HostPath"}},
        },
    },
    "storage": {
        "kind": "list",
        "max_length": 256,
        "fields": {
            "path": {"kind": "leaf", "default": None, "read": {"as": "HostPath"}},
            "image": {"kind": "leaf", "default": None, "read": {"as": "Name"}},
            "disk": {"kind": "leaf", "default": None, "read": {"as": "Name"}},
            "size": {"kind": "leaf", "default": None, "read": {"as": "DiskSize", "ge": 512, "le": 70368744177664}},
            "filesystem": {"kind": "leaf", "default": None, "read": {"as": "choice", "words": ("ext4", "xfs", "btrfs", "vfat", "swap")}},
            "read_only": {"kind": "leaf", "default": False, "read": {"as": "Flag"}},
            "is_root_device": {"kind": "leaf", "default": False, "read": {"as": "Flag"}},
            "id": {"kind": "leaf", "default": None, "read": {"as": "Identifier"}},
            "format": {"kind": "leaf", "default": None, "read": {"as": "choice", "words": ("raw", "qcow2", "vhd", "vhdx")}},
            "direct_io": {"kind": "leaf", "default": False, "read": {"as": "Flag"}},
            "io_engine": {"kind": "leaf", "default": None, "read": {"as": "choice", "words": ("sync", "aio", "io_uring")}},
            "serial": {"kind": "leaf", "default": None, "read": {"as": "Token", "max_length": 20}},
            "num_queues": {"kind": "leaf", "default": None, "read": {"as": "Whole", "ge": 1, "le": 8192}},
            "queue_size": {"kind": "leaf", "default": None, "read": {"as": "Whole", "ge": 4, "le": 32768}},
            "rate_limit": {
                "kind": "tree",
                "optional": True,
                "fields": {
                    "bandwidth": {
                        "kind": "tree",
                        "optional": True,
                        "fields": {
                            "size": {"kind": "leaf", "required": True, "read": {"as": "Size", "ge": 0, "le": 1125899906842624}},
                            "refill_ms": {"kind": "leaf", "required": True, "read": {"as": "Whole", "ge": 0, "le": 1125899906842624}},
                            "burst": {"kind": "leaf", "default": 0, "read": {"as": "Size", "ge": 0, "le": 1125899906842624}},
                        },
                    },
                    "ops": {
                        "kind": "tree",
                        "optional": True,
                        "fields": {
                            "size": {"kind": "leaf", "required": True, "read": {"as": "Whole", "ge": 0, "le": 1125899906842624}},
                            "refill_ms": {"kind": "leaf", "required": True, "read": {"as": "Whole", "ge": 0, "le": 1125899906842624}},
                            "burst": {"kind": "leaf", "default": 0, "read": {"as": "Whole", "ge": 0, "le": 1125899906842624}},
                        },
                    },
                },
            },
            "vhost_user_socket": {"kind": "leaf", "default": None, "read": {"as": "SocketPath"}},
        },
    },
    "network": {
        "kind": "list",
        "max_length": 256,
        "fields": {
            "id": {"kind": "leaf", "default": None, "read": {"as": "Identifier"}},
            "tap_device": {"kind": "leaf", "default": None, "read": {"as": "TapName"}},
            "network": {"kind": "leaf", "default": None, "read": {"as": "NetworkName"}},
            "address": {"kind": "leaf", "default": None, "read": {"as": "Addresses"}},
            "address_method": {"kind": "leaf", "default": "auto", "read": {"as": "choice", "words": ("auto", "dhcp", "kernel", "mmds", "cloud_init", "none")}},
            "vlan": {"kind": "leaf", "default": None, "read": {"as": "Whole", "ge": 1, "le": 4094}},
            "mac_address": {"kind": "leaf", "default": None, "read": {"as": "MacAddress"}},
            "mtu": {"kind": "leaf", "default": None, "read": {"as": "Whole", "ge": 68, "le": 65535}},
            "num_queues": {"kind": "leaf", "default": None, "read": {"as": "Whole", "ge": 1, "le": 8192}},
            "queue_size": {"kind": "leaf", "default": None, "read": {"as": "Whole", "ge": 4, "le": 32768}},
            "rate_limit_rx": {
                "kind": "tree",
                "optional": True,
                "fields": {
                    "bandwidth": {
                        "kind": "tree",
                        "optional": True,
                        "fields": {
                            "size": {"kind": "leaf", "required": True, "read": {"as": "Size", "ge": 0, "le": 1125899906842624}},
                            "refill_ms": {"kind": "leaf", "required": True, "read": {"as": "Whole", "ge": 0, "le": 1125899906842624}},
                            "burst": {"kind": "leaf", "default": 0, "read": {"as": "Size", "ge": 0, "le": 1125899906842624}},
                        },
                    },
                    "ops": {
                        "kind": "tree",
                        "optional": True,
                        "fields": {
                            "size": {"kind": "leaf", "required": True, "read": {"as": "Whole", "ge": 0, "le": 1125899906842624}},
                            "refill_ms": {"kind": "leaf", "required": True, "read": {"as": "Whole", "ge": 0, "le": 1125899906842624}},
                            "burst": {"kind": "leaf", "default": 0, "read": {"as": "Whole", "ge": 0, "le": 1125899906842624}},
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
                            "size": {"kind": "leaf", "required": True, "read": {"as": "Size", "ge": 0, "le": 1125899906842624}},
                            "refill_ms": {"kind": "leaf", "required": True, "read": {"as": "Whole", "ge": 0, "le": 1125899906842624}},
                            "burst": {"kind": "leaf", "default": 0, "read": {"as": "Size", "ge": 0, "le": 1125899906842624}},
                        },
                    },
                    "ops": {
                        "kind": "tree",
                        "optional": True,
                        "fields": {
                            "size": {"kind": "leaf", "required": True, "read": {"as": "Whole", "ge": 0, "le": 1125899906842624}},
                            "refill_ms": {"kind": "leaf", "required": True, "read": {"as": "Whole", "ge": 0, "le": 1125899906842624}},
                            "burst": {"kind": "leaf", "default": 0, "read": {"as": "Whole", "ge": 0, "le": 1125899906842624}},
                        },
                    },
                },
            },
            "vhost_user_socket": {"kind": "leaf", "default": None, "read": {"as": "SocketPath"}},
        },
    },
    "console": {
        "kind": "tree",
        "optional": False,
        "fields": {
            "enabled": {"kind": "leaf", "default": True, "read": {"as": "Flag"}},
            "output": {"kind": "leaf", "default": "file", "read": {"as": "choice", "words": ("file", "tty", "null", "socket")}},
            "path": {"kind": "leaf", "default": None, "read": {"as": "HostPath"}},
        },
    },
    "rng": {
        "kind": "tree",
        "optional": True,
        "fields": {
            "source": {"kind": "leaf", "default": "/dev/urandom", "read": {"as": "HostPath"}},
        },
    },
    "vsock": {
        "kind": "tree",
        "optional": True,
        "fields": {
            "cid": {"kind": "leaf", "default": None, "read": {"as": "Whole", "ge": 3, "le": 4294967294}},
            "path": {"kind": "leaf", "default": None, "read": {"as": "SocketPath"}},
        },
    },
    "watchdog": {"kind": "leaf", "default": None, "read": {"as": "Flag"}},
    "backend_options": {
        "kind": "tree",
        "optional": False,
        "fields": {
            "cloudhypervisor": {"kind": "leaf", "default": {}, "read": {"as": "dict"}},
            "firecracker": {"kind": "leaf", "default": {}, "read": {"as": "dict"}},
            "qemu": {
                "kind": "tree",
                "optional": True,
                "fields": {
                    "args": {"kind": "leaf", "default": [], "read": {"as": "list", "of": {"as": "KernelArgs", "max_length": 4096}, "max_length": 256}},
                    "machine": {"kind": "leaf", "default": {}, "read": {"as": "dict"}},
                },
            },
        },
    },
}
