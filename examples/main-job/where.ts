import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { softwareDevice, type DeviceAddress } from 'vfio-rx';
import { profiles, type Profile } from './profiles.js';
import { softwareWitness, sysfsWitness, type Witness } from './witness.js';

/** A device to open, who tells the driver's side of it, and how fast things go there. */
export interface Place {
  readonly what: string;
  readonly address: DeviceAddress;
  readonly witness: Witness;
  /** How often a guest looks for empty slots, ms. */
  readonly turnMs: number;
  /** How long a guest may take to let go of an area, ms: half of what the driver waits. Not every driver says how long that is. */
  readonly holderBudgetMs: number;
  /** What the run may take beyond the time that the guests write, s. */
  readonly overtimeS: number;
}

export function softwarePlace(profile: Profile): Place {
  const { remap } = profiles[profile];
  const ackTimeoutMs = 2000;
  const device = softwareDevice({ remap: remap === false ? false : { ...remap, ackTimeoutMs } });
  return { what: `software device ${device.name}, in this process, ${profile}`, address: device, witness: softwareWitness(device.driver), turnMs: 1, holderBudgetMs: ackTimeoutMs / 2, overtimeS: 6 };
}

/** On an emulated processor starting a thread takes seconds, and a turn of the loop many milliseconds. */
const emulated = { ackTimeoutMs: 10_000, turnMs: 5, overtimeS: 60 };

/** The sample driver's device, where there is one: the kernel lane says so in the environment. */
export function kernelPlace(profile: Profile): Place | undefined {
  const { VFIO_RX_MDEV_UUID: uuid, VFIO_RX_MDEV_SYSFS: sysfs } = process.env;
  if (uuid === undefined || sysfs === undefined) return undefined;
  const { ackTimeoutMs, turnMs, overtimeS } = emulated;
  // Before the device is opened: the driver tells it in its irq info.
  writeFileSync(join(sysfs, 'remap', 'profile'), profiles[profile].sysfs);
  writeFileSync(join(sysfs, 'remap', 'ack_timeout_ms'), String(ackTimeoutMs));
  return { what: `mdev ${uuid} of the sample driver, ${profile}`, address: uuid, witness: sysfsWitness(sysfs), turnMs, holderBudgetMs: ackTimeoutMs / 2, overtimeS };
}
