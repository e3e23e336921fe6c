import { concat, ignoreElements, interval, of, takeUntil, tap } from 'rxjs';
import { softwareDevice, type DevicePort, type SoftwareDevice, type SoftwareDeviceOptions, type SoftwareVendorDriver } from 'vfio-rx';
import type { Software } from './program.js';

/** The devices that the examples work on where there is no real one. */

/** How often a lively device does something, ms. */
const everyMs = 200;

/** A device whose driver does something by itself while it is open. */
export function lively(act: (driver: SoftwareVendorDriver, turn: number) => void, options: SoftwareDeviceOptions = {}): Software {
  return (named) => {
    const device = softwareDevice({ ...options, ...named });
    const actsWhileOpen = ({ released }: DevicePort): void => {
      const closed = concat(released.pipe(ignoreElements()), of('closed'));
      interval(everyMs).pipe(takeUntil(closed)).subscribe({ next: (turn) => act(device.driver, turn), error: () => undefined });
    };
    return { open: (clock) => device.open(clock).pipe(tap(actsWhileOpen)) };
  };
}

/** What a lively driver may do: takes region 0 away and gives it back, by turns, if somebody serves that. */
export function takeAndGive(driver: SoftwareVendorDriver, turn: number): void {
  if (!driver.pages.every(({ complete }) => complete)) return;
  if (turn % 2 === 0) driver.revoke(0);
  else driver.restore(0);
}

/** A device with contents of its own, to be migrated. */
export function filled(name: string, millisecondsAnArc = 0): SoftwareDevice {
  const device = softwareDevice({ name, regions: [{ index: 0, size: 1 << 20 }], remap: false, mailbox: false });
  device.driver.writeRegion(0, 0, new TextEncoder().encode(`the state of ${name}`));
  device.driver.faults.arcLatencyUs = millisecondsAnArc * 1000;
  return device;
}
