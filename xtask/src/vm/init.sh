#!/bin/sh
# The first process of the virtual machine: makes it look like a host to the test programs, runs
# them one after the other, and powers off. `cargo xtask vm` reads the marked lines on the console.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root TERM=dumb

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null # some kernels have mounted it already
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
# The tests lie there if the project does.
if [ -z "$(ls -A /tmp)" ]; then
    mount -t tmpfs -o mode=1777 tmpfs /tmp
else
    chmod 1777 /tmp
fi
mount -t securityfs securityfs /sys/kernel/security
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
# Tests crash on purpose; the kernel would tell of each on the console.
echo 0 >/proc/sys/debug/exception-trace

echo "ffitrace-vm: kernel $(uname -r)"
. /ffitrace-vm/environment
if [ -e /ffitrace-vm/shell ]; then
    echo "\`. /ffitrace-vm/runs\` runs the tests that it lists, \`exit\` powers off."
    ENV=/ffitrace-vm/environment setsid cttyhack sh
else
    . /ffitrace-vm/runs
    echo "ffitrace-vm: done"
fi
poweroff -f
