# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# The first process of the quickstart's guest, run by busybox. It greets, and powers off when the power button is pressed, which is how a VM is shut down gracefully.
busybox=/bin/busybox
$busybox mount -t devtmpfs dev /dev
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
for module in /modules/*; do
    [ -e "$module" ] && $busybox insmod "$module"
done

watch_power_button() {
    # Reading blocks until something is pressed, and there is one button.
    $busybox head -c 1 <&3 >/dev/null
    echo "The power button was pressed: goodbye."
    $busybox poweroff -f
}
for input in /sys/class/input/event*; do
    [ -e "$input/device/name" ] || continue
    case "$($busybox cat "$input/device/name")" in
        "Power Button")
            # Opened here: from now on the kernel keeps what is pressed, also while the watcher is only being started.
            exec 3<"/dev/input/${input##*/}"
            watch_power_button &
            ;;
    esac
done

# Where there is no power button (Firecracker), the host types Ctrl+Alt+Del: the kernel sends it here.
goodbye() {
    echo "Ctrl+Alt+Del was pressed: goodbye."
    $busybox reboot -f
}
trap goodbye INT
echo 0 >/proc/sys/kernel/ctrl-alt-del

echo
echo "User space reached $($busybox cut -d ' ' -f 1 /proc/uptime) s after the kernel began."
# shellcheck disable=SC2016
echo "Linux $($busybox uname -r), $($busybox nproc) CPU, $($busybox awk '/^MemTotal/ { printf "%d MiB", $2 / 1024 }' /proc/meminfo)"
echo "Hello from a VM of unkey.vmcp!"
while :; do
    $busybox sleep 3600 &
    wait $!
done
