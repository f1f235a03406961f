# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a launch file that makes a VM's sandbox: private mounts, access to files and devices. POSIX sh; see C(launch_body)."""

from __future__ import annotations

SANDBOX = r"""
seed() { # path, file to make it from: without a sandbox
    step="make $1 from $2"
    [ -e "$1" ] || { cp -- "$2" "$1.new" && mv -- "$1.new" "$1"; }
}

# Everything mounted here is in the private mount namespace, and vanishes with it. What is to be bound is collected first: one mount for all.
open_sandbox() {
    step='mount the sandbox'
    groups='' table=''
    # Whoever started this has done so (host/jail_mounts.py).
    [ "${how-}" != mounted ] || return 0
    # Nothing of this is to be seen by the host.
    [ ! /proc/self/ns/mnt -ef "/proc/$PPID/ns/mnt" ] || fail 'It has no mount namespace of its own. Start it with its verb run, or as its supervisor does.'
    # What is missing of these paths, mount makes itself, which saves a program each.
    umask 066
    if [ -n "$jailer" ]; then
        # The jailer makes its path itself; it must be there for the mounts.
        files=$run/$jail_root/files files_word=$run_word/$jail_root_word/files
        made_mount "$run_word/jail" tmpfs mode=0711,size=512m,nosuid
        made_mount "$files_word" tmpfs mode=0711,size=64m,nosuid
        mount_table
        made_mount "$run_word/$jail_root_word/vmm" none bind "$run_word/vmm"
    else
        files=$run/files files_word=$run_word/files
        made_mount "$files_word" tmpfs mode=0711,size=64m,nosuid
        mount_table
    fi
    [ -z "$own_data" ] || made_mount "$files_word$own_data" none bind,nosuid,nodev,noexec "$dir_word/data"
    umask 077
    vmm_files
    [ -n "$jailer" ] || vmm_devices
    step='mount the files of the VM'
    mount_table
    may_open_all || vmm_access
    vmm_own_files
}

# Paths as words of a table of file systems (blanks as octal numbers).
bind() { # what, where, options
    table="$table$1 $2 none $3 0 0
"
}

# The same at a place that need not be there yet.
made_mount() { # where, type, options, what
    table="$table${4-vmcp} $1 $2 $3,X-mount.mkdir=0711 0 0
"
}

mount_table() {
    printf '%s' "$table" > "$run/mounts"
    mount --all --fstab "$run/mounts"
    table=''
}

as_vm() { setpriv --reuid "$uid" --regid "$uid" --clear-groups --inh-caps=-all -- "$@"; }

expose() { # alias, path, path as a word of the table, ro or rw: a file of the host's
    step="give the VM the file $2"
    if [ -b "$2" ]; then
        case $4 in rw) mode=0600 ;; *) mode=0400 ;; esac
        # shellcheck disable=SC2046 # two numbers
        mknod -m "$mode" -- "$files/$1" b $(stat -L -c '0x%t 0x%T' -- "$2")
        chown "$uid:$uid" -- "$files/$1"
    elif [ -f "$2" ] || [ -S "$2" ]; then
        : > "$files/$1"
        bind "$3" "$files_word/$1" "bind,$4"
    elif [ -e "$2" ]; then
        fail "$2 is neither a file, a block device nor a socket, so it cannot be given to a VM."
    else
        fail "$2 is not there. Create it, or correct the VM's configuration."
    fi
}

# Whoever asked for this start has just looked at the files (host/jail_mounts.py). Where one was exchanged since, the VMM may not open it: nothing is given.
may_open_all() {
    [ -e "$run/watched" ] || return 1
    { read -r _ && read -r seen; } < "$run/watched" || return 1
    [ "$seen" = open ]
}

# Looks at the mounted file, not at its path: what was mounted cannot be exchanged any more.
access() { # alias, path, ro or rw; then mode, uid and gid of the mounted file
    mode=${4#"${4%???}"} digit=${4#"${4%?}"}
    if [ "$5" = "$uid" ]; then digit=${mode%??}
    elif [ "$6" = "$uid" ]; then digit=${mode%?} digit=${digit#?}
    fi
    case $3$digit in ro[4567]|rw[67]) return 0 ;; esac
    allow "$files/$1" "$2" "$3"
}

allow() { # mounted file, path, ro or rw
    step="give the VM the file $2"
    case $3 in
        rw) as_vm test -r "$1" -a -w "$1" && return 0; rights=rw ;;
        *) as_vm test -r "$1" && return 0; rights=r ;;
    esac
    command -v setfacl > /dev/null || fail "uid $uid may not open $2, and setfacl is missing to allow it. Install the package 'acl', or change the file's mode."
    # An entry that somebody made for this uid is put back, not taken away, in the end.
    before=$(getfacl -cnEp -- "$1" 2>/dev/null | sed -n "s/^user:$uid://p")
    printf '%s %s %s %s\n' "$(stat -c '%d:%i' -- "$1")" "$uid" "${before:--}" "$2" >> "$dir/granted"
    # A read-only bind mount refuses it: through the path then, which names the same file.
    setfacl -m "u:$uid:$rights" -- "$1" 2>/dev/null || setfacl -m "u:$uid:$rights" -- "$2" ||
        fail "uid $uid may not open $2, and its file system takes no access list. Change the file's mode or owner, or move it to another file system."
}

own() { # alias, path below data/: the VM's uid resolves it with its own rights, in a link that root never follows
    step="give the VM its file $2"
    ln -s -- "+data/$2" "$files/$1"
}

own_seed() { # path below data/, file to make it from
    step="give the VM its file $1"
    as_vm test -e "$files/+data/$1" && return 0
    [ -r "$2" ] || fail "$2 is not there to make the VM's file $1 from. Install the package that has it, or correct the VM's configuration."
    # Read by root, written by the VM's uid.
    as_vm dd "of=$files/+data/$1.new" status=none < "$2"
    as_vm mv -- "$files/+data/$1.new" "$files/+data/$1"
}

document() { # alias, file name: root's to write, and its group's, the VM's, to read
    step="give the VM its document $2"
    : > "$files/$1"
    bind "$dir_word/$2" "$files_word/$1" bind,ro
}

log_file() { # alias: the VMM's own log, for a VMM that cannot write it to stderr
    step='give the VM its log'
    : > "$files/$1"
    bind "$dir_word/vmm.log" "$files_word/$1" bind
}

log_access() { # owner of the mounted file
    [ "$1" = "$uid" ] || chown "$uid:$uid" -- "$dir/vmm.log"
}

need_device() { # path
    step="give the VM the device $1"
    [ -c "$1" ] || fail "$1 is not there. Load its kernel module, or see vmcp_host_info."
}

device() { # path, as a word; its mode, gid and numbers
    step="give the VM the device $1"
    case $3 in *[67]) return 0 ;; esac
    case $3 in *[67]?) if [ "$4" -ne 0 ]; then groups=${groups:+$groups,}$4; return 0; fi ;; esac
    # Root's alone: a node of the VM's own lies over it, in its mount namespace only.
    node=+dev${1##*/}
    mknod -m 0600 -- "$files/$node" c "$5" "$6"
    chown "$uid:$uid" -- "$files/$node"
    bind "$files_word/$node" "$2" bind
}
"""
