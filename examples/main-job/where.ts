import { softwareDevice, type DeviceAddress } from '../../src/index.js';
import { softwareWitness, sysfsWitness, type Witness } from './witness.js';

/** A device to open, and who tells the driver's side of it. */
export interface Place {
  readonly what: string;
  readonly address: DeviceAddress;
  readonly witness: Witness;
  /** How often a guest looks for empty slots, ms: an emulated processor has no time for more. */
  readonly turnMs: number;
}

/** As the sample driver's, so that both runs are the same. */
const ackTimeoutMs = 2000;

export function softwarePlace(): Place {
  const device = softwareDevice({ remap: { ackTimeoutMs } });
  return { what: `software device ${device.name}, in this process`, address: device, witness: softwareWitness(device.driver), turnMs: 1 };
}

/** The sample driver's device, where there is one: the kernel lane says so in the environment. */
export function kernelPlace(): Place | undefined {
  const { VFIO_RX_MDEV_UUID: uuid, VFIO_RX_MDEV_SYSFS: sysfs } = process.env;
  if (uuid === undefined || sysfs === undefined) return undefined;
  return { what: `mdev ${uuid} of the sample driver`, address: uuid, witness: sysfsWitness(sysfs), turnMs: 5 };
}
