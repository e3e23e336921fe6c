/** Names of what <linux/pci_regs.h> numbers. */

const capabilities: readonly string[] = [
  'null', 'power management', 'AGP', 'vital product data', 'slot identification', 'MSI', 'CompactPCI hot swap', 'PCI-X', 'HyperTransport', 'vendor specific',
  'debug port', 'CompactPCI resource control', 'hot-plug', 'bridge subsystem id', 'AGP 8x', 'secure device', 'PCI Express', 'MSI-X', 'SATA', 'advanced features', 'enhanced allocation',
];

const extended: Readonly<Record<number, string>> = {
  0x01: 'advanced error reporting', 0x02: 'virtual channel', 0x03: 'device serial number', 0x04: 'power budgeting', 0x05: 'root complex link declaration', 0x07: 'root complex event collector',
  0x08: 'multi-function virtual channel', 0x09: 'virtual channel', 0x0b: 'vendor specific', 0x0d: 'access control services', 0x0e: 'alternative routing id', 0x0f: 'address translation services',
  0x10: 'SR-IOV', 0x11: 'MR-IOV', 0x12: 'multicast', 0x13: 'page request', 0x15: 'resizable BAR', 0x16: 'dynamic power allocation', 0x17: 'TPH requester', 0x18: 'latency tolerance reporting',
  0x19: 'secondary PCI Express', 0x1b: 'process address space id', 0x1d: 'downstream port containment', 0x1e: 'L1 PM substates', 0x1f: 'precision time measurement', 0x23: 'designated vendor specific',
  0x24: 'VF resizable BAR', 0x25: 'data link feature', 0x26: 'physical layer 16 GT/s', 0x27: 'lane margining', 0x2a: 'physical layer 32 GT/s', 0x2e: 'data object exchange',
};

export function capabilityName(id: number): string {
  return capabilities[id] ?? `0x${id.toString(16)}`;
}

export function extendedCapabilityName(id: number): string {
  return extended[id] ?? `0x${id.toString(16)}`;
}

const regions: readonly string[] = ['BAR 0', 'BAR 1', 'BAR 2', 'BAR 3', 'BAR 4', 'BAR 5', 'ROM', 'config space', 'VGA'];

/** What a region of a PCI device is. */
export function pciRegionName(index: number): string | undefined {
  return regions[index];
}

export function hex(value: number | bigint, digits = 0): string {
  return `0x${value.toString(16).padStart(digits, '0')}`;
}
