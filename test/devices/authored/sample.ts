import { EMPTY } from 'rxjs';
import type { Clock } from '../../../src/clock.js';
import type { DeviceBehaviour } from '../../../src/devices/authored/behaviour.js';
import type { PciDeviceDescription } from '../../../src/devices/authored/description.js';
import { pciDevice } from '../../../src/devices/authored/pci-device.js';
import type { DevicePort } from '../../../src/devices/port.js';
import { now } from '../../support/devices.js';

/** A device with every kind of BAR and of irq. */
export const sample: PciDeviceDescription = {
  vendorId: 0x1234, deviceId: 0x5678, revision: 2, classCode: 0xff_00_01,
  bars: [{ index: 0, kind: 'memory', size: 0x1000 }, { index: 2, kind: 'io', size: 8 }],
  interrupts: { intx: true, msi: 4, msix: { vectors: 3, bar: 0, offset: 0x800 } },
};

export function openedSample(clock: Clock, behaviour: DeviceBehaviour = () => EMPTY, description: PciDeviceDescription = sample): DevicePort {
  return now(pciDevice(description, behaviour).open(clock));
}

/** Reads or writes configuration space. */
export function config(port: DevicePort, offset: number, bytes: number): number {
  return now(port.access({ region: 7, offset, readBytes: bytes })).reduceRight((value, byte) => value * 256 + byte, 0);
}

export function setConfig(port: DevicePort, offset: number, ...bytes: readonly number[]): void {
  now(port.access({ region: 7, offset, write: Uint8Array.from(bytes) }));
}
