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

# Everything mounted from here on is in the private mount namespace, and vanishes with it.
open_sandbox() {
    step='mount the sandbox'
    groups=''
    if [ -n "$jailer" ]; then
        mkdir -p -m 0711 -- "$run/jail"
        mount -t tmpfs -o mode=0711,size=512m,nosuid vmcp "$run/jail"
        # The jailer makes what is missing of this path itself; it must be there for the mounts.
        jail_root=$run/jail/${binary##*/}/$name/root
        umask 066
        mkdir -p -- "$jail_root/files" "$jail_root/vmm"
        umask 077
        mount -o bind "$run/vmm" "$jail_root/vmm"
        files=$jail_root/files
    else
        mkdir -p -m 0711 -- "$run/files"
        mount -t tmpfs -o mode=0711,size=64m,nosuid vmcp "$run/files"
        files=$run/files
    fi
    vmm_files
    [ -n "$jailer" ] || vmm_devices
}

as_vm() { setpriv --reuid "$uid" --regid "$uid" --clear-groups --inh-caps=-all -- "$@"; }

expose() { # alias, path, ro or rw: a file of the host's
    step="give the VM the file $2"
    if [ -b "$2" ]; then
        case $3 in rw) mode=0600 ;; *) mode=0400 ;; esac
        # shellcheck disable=SC2046 # two numbers
        mknod -m "$mode" -- "$files/$1" b $(stat -L -c '0x%t 0x%T' -- "$2")
        chown "$uid:$uid" -- "$files/$1"
    elif [ -f "$2" ] || [ -S "$2" ]; then
        : > "$files/$1"
        mount -o "bind,$3" -- "$2" "$files/$1"
        allow "$files/$1" "$2" "$3"
    elif [ -e "$2" ]; then
        fail "$2 is neither a file, a block device nor a socket, so it cannot be given to a VM."
    else
        fail "$2 is not there. Create it, or correct the VM's configuration."
    fi
}

# Looks at the mounted file, not at its path: what was mounted cannot be exchanged any more.
allow() { # mounted file, path, ro or rw
    case $3 in
        rw) as_vm test -r "$1" -a -w "$1" && return 0; rights=rw ;;
        *) as_vm test -r "$1" && return 0; rights=r ;;
    esac
    command -v setfacl > /dev/null || fail "uid $uid may not open $2, and setfacl is missing to allow it. Install the package 'acl', or change the file's mode."
    printf '%s %s %s\n' "$(stat -c '%d:%i' -- "$1")" "$uid" "$2" >> "$dir/granted"
    # A read-only bind mount refuses it: through the path then, which names the same file.
    setfacl -m "u:$uid:$rights" -- "$1" 2>/dev/null || setfacl -m "u:$uid:$rights" -- "$2" ||
        fail "uid $uid may not open $2, and its file system takes no access list. Change the file's mode or owner, or move it to another file system."
}

own() { # alias, path below data/, file to make it from or '': the VM's uid resolves it with its own rights, in a link that root never follows
    step="give the VM its file $2"
    if [ ! -d "$files/+data" ]; then
        mkdir -m 0711 -- "$files/+data"
        mount -o bind,nosuid,nodev,noexec -- "$dir/data" "$files/+data"
    fi
    ln -s -- "+data/$2" "$files/$1"
    if [ -n "$3" ] && ! as_vm test -e "$files/+data/$2"; then
        [ -r "$3" ] || fail "$3 is not there to make the VM's file $2 from. Install the package that has it, or correct the VM's configuration."
        # Read by root, written by the VM's uid.
        as_vm dd "of=$files/+data/$2.new" status=none < "$3"
        as_vm mv -- "$files/+data/$2.new" "$files/+data/$2"
    fi
}

document() { # alias, file name: a copy that the VM's uid may read
    step="give the VM its document $2"
    install -m 0400 -o "$uid" -g "$uid" -- "$dir/$2" "$files/$1"
}

log_file() { # alias: the VMM's own log, for a VMM that cannot write it to stderr
    step='give the VM its log'
    : >> "$dir/vmm.log"
    chown "$uid:$uid" -- "$dir/vmm.log"
    : > "$files/$1"
    mount -o bind -- "$dir/vmm.log" "$files/$1"
}

device() { # path
    step="give the VM the device $1"
    [ -c "$1" ] || fail "$1 is not there. Load its kernel module, or see vmcp_host_info."
    set -- "$1" $(stat -L -c '%a %g 0x%t 0x%T' -- "$1")
    case $2 in *[67]) return 0 ;; esac
    case $2 in *[67]?) if [ "$3" -ne 0 ]; then groups=${groups:+$groups,}$3; return 0; fi ;; esac
    # Root's alone: a node of the VM's own lies over it, in its mount namespace only.
    node=$files/+dev${1##*/}
    mknod -m 0600 -- "$node" c "$4" "$5"
    chown "$uid:$uid" -- "$node"
    mount -o bind -- "$node" "$1"
}
"""
