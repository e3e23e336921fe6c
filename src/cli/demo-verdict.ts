import type { SoftwareVendorDriver } from '../devices/software/driver-face.js';

/** Something that must be true. */
export interface Check {
  readonly what: string;
  readonly good: boolean;
  readonly detail: string;
}

/** What the device says of a guest that claims to have written the numbers 1 to `sent`, once it is closed. */
export function demoVerdict(driver: Pick<SoftwareVendorDriver, 'mailbox' | 'violations' | 'opens' | 'vmas' | 'irqs' | 'waiters'>, guest: number, sent: number): readonly Check[] {
  const { guests, stale } = driver.mailbox;
  const { received, duplicates, missing, byMap, byTrap } = guests[guest] ?? { received: 0, duplicates: 0, missing: 0, byMap: 0, byTrap: 0 };
  const { violations, opens, vmas, irqs, waiters } = driver;
  return [
    { what: 'every number arrived once', good: sent > 0 && received === sent && duplicates === 0 && missing === 0, detail: `${sent} written, ${received} received, ${duplicates} twice, ${missing} missing` },
    { what: 'the guest went on without its mapping', good: byMap > 0 && byTrap > 0, detail: `${byMap} by mapped memory, ${byTrap} through the driver` },
    { what: 'nothing came through memory that was taken away', good: stale === 0, detail: `${stale} writes` },
    { what: 'no rule of the driver was broken', good: violations === 0, detail: `${violations} times` },
    { what: 'nothing is held after the close', good: opens + vmas + irqs + waiters === 0, detail: `opens ${opens}, mappings ${vmas}, irqs ${irqs}, waiting ${waiters}` },
  ];
}
