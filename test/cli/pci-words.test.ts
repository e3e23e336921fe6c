import { expect, it } from 'vitest';
import { capabilityName, extendedCapabilityName, hex, pciRegionName } from '../../src/cli/pci-words.js';
import { pciCapabilityId } from '../../src/devices/protocol/pci-capabilities.js';

it('has names for what PCI numbers, and the number where there is none', () => {
  const { powerManagement, msi, express, msix, advancedFeatures } = pciCapabilityId;
  expect([powerManagement, msi, express, msix, advancedFeatures].map(capabilityName)).toEqual(['power management', 'MSI', 'PCI Express', 'MSI-X', 'advanced features']);
  expect([capabilityName(0x15), extendedCapabilityName(1), extendedCapabilityName(0x10), extendedCapabilityName(0xfff)]).toEqual(['0x15', 'advanced error reporting', 'SR-IOV', '0xfff']);
  expect([0, 5, 6, 7, 9].map(pciRegionName)).toEqual(['BAR 0', 'BAR 5', 'ROM', 'config space', undefined]);
  expect([hex(10n), hex(2, 4)]).toEqual(['0xa', '0x0002']);
});
