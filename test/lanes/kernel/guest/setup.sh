# Prepares VFIO in the guest; sourced by the job. $VFIO_RX_MODULES lists the kernel's modules and then ours, one path a
# line, in loading order.

while read -r module; do
  insmod "$module" || echo "setup: could not load $module" >&2
done < "$VFIO_RX_MODULES"

# Makes one device of the sample driver: sets VFIO_RX_MDEV_UUID and VFIO_RX_MDEV_SYSFS. $1 is a path of the module's
# sysfs type, or nothing for the first type there is.
make_mdev() {
  VFIO_RX_MDEV_UUID=83b8f4f2-509f-382f-3c1e-e6bfe0fa1001
  for create in ${1:-/sys/class/*/*/mdev_supported_types/*/create}; do
    [ -e "$create" ] || continue
    echo "$VFIO_RX_MDEV_UUID" > "$create" || return 1
    VFIO_RX_MDEV_SYSFS=/sys/bus/mdev/devices/$VFIO_RX_MDEV_UUID
    export VFIO_RX_MDEV_UUID VFIO_RX_MDEV_SYSFS
    return 0
  done
  echo "setup: no loaded module offers mediated devices" >&2
  return 1
}
