import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SoftwareVendorDriver } from 'vfio-rx';

/** The device's own account of a run: the same questions to a driver in this process and to one in a kernel. */
export interface Witness {
  readonly deliveries: Deliveries;
  /** The latest events that the driver kept, oldest first. */
  readonly trace: readonly TraceLine[];
  /** What the driver signalled and what came back, in this registration. */
  readonly sums: { readonly sent: bigint; readonly acked: bigint };
  /** Rules that the user broke. */
  readonly violations: number;
  readonly held: Held;
}

/** What arrived in the mailbox. */
export interface Deliveries {
  /** By guest number. */
  readonly guests: readonly GuestDeliveries[];
  /** Writes by a mapping that was revoked. */
  readonly stale: number;
}

export interface GuestDeliveries {
  /** Different numbers. */
  readonly received: number;
  readonly duplicates: number;
  /** Numbers below the highest that never came. */
  readonly missing: number;
  readonly byMap: number;
  readonly byTrap: number;
}

/** What the driver still holds for its user. */
export interface Held {
  readonly opens: number;
  readonly vmas: number;
  readonly irqs: number;
  readonly waiters: number;
}

export interface TraceLine {
  readonly seq: number;
  /** CLOCK_MONOTONIC, ns. */
  readonly atNs: bigint;
  readonly event: string;
  readonly fields: Readonly<Record<string, string>>;
}

export function softwareWitness(driver: SoftwareVendorDriver): Witness {
  return {
    get deliveries() {
      return driver.mailbox;
    },
    get trace() {
      return driver.trace;
    },
    get sums() {
      return { sent: driver.sent, acked: driver.acked };
    },
    get violations() {
      return driver.violations;
    },
    get held() {
      const { opens, vmas, irqs, waiters } = driver;
      return { opens, vmas, irqs, waiters };
    },
  };
}

/** The sample driver's group `remap/` of one mdev; `drivers/linux/README.md` describes the files. */
export function sysfsWitness(mdev: string): Witness {
  const read = (file: string): string => readFileSync(join(mdev, 'remap', file), 'latin1').trim();
  return {
    get deliveries() {
      return readMailbox(read('mailbox'));
    },
    get trace() {
      return read('trace').split('\n').filter((line) => line !== '').map(readTraceLine);
    },
    get sums() {
      return { sent: BigInt(read('sent')), acked: BigInt(read('acked')) };
    },
    get violations() {
      return Number(read('violations'));
    },
    get held() {
      const number = (file: string): number => Number(read(file));
      return { opens: number('opens'), vmas: number('vmas'), irqs: number('irqs'), waiters: number('waiters') };
    },
  };
}

/** `guest=0 received=5 ...` and `stale=0`. The driver's `received` counts a number that came twice twice. */
export function readMailbox(text: string): Deliveries {
  const lines = text.split('\n').map(readFields);
  const guests = lines
    .filter((fields) => fields['guest'] !== undefined)
    .map((fields) => {
      const number = (name: string): number => Number(fields[name] ?? NaN);
      const received = number('received') - number('duplicates');
      return { received, duplicates: number('duplicates'), missing: number('highest') - received, byMap: number('by_map'), byTrap: number('by_trap') };
    });
  return { guests, stale: Number(lines.find((fields) => fields['stale'] !== undefined)?.['stale'] ?? NaN) };
}

/** `<seq> <ns> <event> key=value...` */
export function readTraceLine(line: string): TraceLine {
  const [seq = '', ns = '', event = '', ...fields] = line.split(' ');
  return { seq: Number(seq), atNs: BigInt(ns), event, fields: readFields(fields.join(' ')) };
}

function readFields(text: string): Readonly<Record<string, string>> {
  const fields = text.split(' ').filter((field) => field.includes('='));
  return Object.fromEntries(fields.map((field) => [field.replace(/=.*/, ''), field.replace(/^[^=]*=/, '')]));
}
