import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';

const createPath = '/sys/class/vfio_region_remap/vfio_region_remap/mdev_supported_types/vfio_region_remap-sample/create';

/** One line of the sample driver's trace. */
export interface TraceLine {
  readonly seq: number;
  readonly atNs: bigint;
  readonly event: string;
  readonly fields: Readonly<Record<string, string>>;
}

/** The rows of the protocol, by the names that the driver's sysfs has for them. */
export type SampleProfile = 'rfc-v4' | 'doorbell-value' | 'doorbell-none' | 'bitmap-value' | 'bitmap-none' | 'saving-layout' | 'static';

/** What a device of the sample driver is to be; the driver's own defaults where nothing is said. */
export interface SampleOptions {
  readonly ackTimeoutMs?: number;
  readonly profile?: SampleProfile;
  readonly face?: 'pci' | 'non-pci';
  readonly pages?: 1 | 2;
  /** The generation of device_state. */
  readonly migration?: 1 | 2;
}

/** A device of the sample vendor driver, and what the driver saw (drivers/linux/README.md). Only inside the virtual machine. */
export class SampleMdev implements Disposable {
  readonly uuid = randomUUID();

  constructor(options: SampleOptions = {}) {
    writeFileSync(createPath, this.uuid);
    const files = { ack_timeout_ms: options.ackTimeoutMs, profile: options.profile, face: options.face, pages: options.pages, migration: options.migration };
    for (const [name, value] of Object.entries(files)) if (value !== undefined) this.write(name, value);
  }

  read(name: string): string {
    return readFileSync(this.#path(`remap/${name}`), 'utf8').trim();
  }

  number(name: 'opens' | 'vmas' | 'irqs' | 'waiters' | 'sent' | 'acked' | 'violations'): number {
    return Number(this.read(name));
  }

  write(name: string, value: number | string): void {
    writeFileSync(this.#path(`remap/${name}`), `${value}`);
  }

  /** What must all be 0 when nobody has the device open. */
  held(): Readonly<Record<'opens' | 'vmas' | 'irqs' | 'waiters', number>> {
    return { opens: this.number('opens'), vmas: this.number('vmas'), irqs: this.number('irqs'), waiters: this.number('waiters') };
  }

  trace(): readonly TraceLine[] {
    return this.read('trace')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        const [seq = '', ns = '', event = '', ...pairs] = line.split(' ');
        return { seq: Number(seq), atNs: BigInt(ns), event, fields: Object.fromEntries(pairs.map((pair) => pair.split('=') as [string, string])) };
      });
  }

  /** One guest's line of the mailbox. */
  mailbox(guest: number): Readonly<Record<string, number>> {
    const line = this.read('mailbox')
      .split('\n')
      .find((text) => text.startsWith(`guest=${guest} `));
    return Object.fromEntries((line ?? '').split(' ').map((pair) => pair.split('=')).map(([key = '', value = '']) => [key, Number(value)]));
  }

  /** Throws while the device is open: its removal would wait in the kernel for its user, who may be this very process. */
  [Symbol.dispose](): void {
    const opens = this.number('opens');
    if (opens > 0) throw new Error(`mdev ${this.uuid} cannot be removed, for it is still open: close its device first`);
    writeFileSync(this.#path('remove'), '1');
  }

  #path(name: string): string {
    return `/sys/bus/mdev/devices/${this.uuid}/${name}`;
  }
}

/** The VFIO files that this process has open: containers, groups, iommufds and devices. (Idle threads and their eventfds come and go.) */
export function vfioFds(): readonly string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return target.includes('vfio') || target === '/dev/iommu' ? [target] : [];
    } catch {
      // The fd of the listing itself.
      return [];
    }
  });
}

export const nothingHeld = { opens: 0, vmas: 0, irqs: 0, waiters: 0 } as const;
