# Process 1 of the guest once the host's files are mounted; runs under busybox. It runs the job that the host left in
# the share, with its output on two channels of its own (the kernel's messages stay on the serial console), writes the
# exit code and the kernel's state into the share, and switches the machine off.

export PATH=/run/bin
LANE=/run/vfio-rx
SELF=/run/bin/busybox
for applet in mkdir mkfifo mount cat dmesg ip sleep timeout sh insmod sync; do
  $SELF ln -s busybox /run/bin/$applet
done

mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
ip link set lo up
# From here on the console gets all of the kernel's messages: it is what is left to read after a crash.
echo 7 > /proc/sys/kernel/printk

. $LANE/settings.sh

# A guest that hangs shows on its console who waits where, shortly before the host ends it.
( sleep "$VFIO_RX_WATCHDOG_S"; echo "main.sh: still running near the deadline; blocked tasks:"; echo w > /proc/sysrq-trigger ) &

# Pipes in front of the channels: programs may reopen /dev/stdout, and a channel can be opened only once.
for name in out err; do
  mkfifo /run/$name
  for port in /sys/class/virtio-ports/*; do
    if [ "$(cat "$port/name")" = "$name" ]; then
      cat < /run/$name > "/dev/${port##*/}" &
      eval "forward_$name=\$!"
    fi
  done
done

# The job sets a PATH to the host's programs.
sh $LANE/job.sh < /dev/null > /run/out 2> /run/err
echo $? > $LANE/exit-code

# A daemon that the job left behind may hold the pipes open for ever.
( sleep 2; kill $forward_out $forward_err 2> /dev/null ) &
wait $forward_out $forward_err

cat /proc/sys/kernel/tainted > $LANE/tainted
dmesg > $LANE/dmesg.txt
sync
echo b > /proc/sysrq-trigger
