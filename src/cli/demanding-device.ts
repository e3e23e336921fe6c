import { concat, interval, of, takeUntil, tap } from 'rxjs';
import type { Clock } from '../clock.js';
import type { PortSource } from '../devices/open.js';
import type { DevicePort } from '../devices/port.js';
import { softwareDevice } from '../devices/software/software-device.js';

/** The region that it takes away and gives back. */
const region = 0;

/** A software device whose driver does something by itself while it is open: every so many ms it takes a region away or gives it back, and interrupts. */
export function demandingDevice(name: string, everyMs: number): PortSource {
  const device = softwareDevice({ name });
  const { driver } = device;
  let taken = false;
  const act = (): void => {
    driver.raiseMsi();
    // It has nobody to tell before the irq is registered.
    if (!driver.pages.every(({ complete }) => complete)) return;
    if (taken) driver.restore(region);
    else driver.revoke(region);
    taken = !taken;
  };
  const actsWhileOpen = ({ released }: DevicePort, { scheduler }: Clock): void => {
    interval(everyMs, scheduler).pipe(takeUntil(concat(released, of(undefined)))).subscribe({ next: act, error: () => undefined });
  };
  return { open: (clock) => device.open(clock).pipe(tap((port) => actsWhileOpen(port, clock))) };
}
