import { statesOf } from '../devices/protocol/migration-states.js';
import type { SoftwareVendorDriver } from '../devices/software/driver-face.js';
import { isErrno, type Errno } from '../devices/software/errno.js';
import { fullLabel } from './device-lanes.js';
import { framesIn } from './frames.js';

/** One word of a script: how it is written, and what it has the driver do. */
interface Word {
  readonly pattern: RegExp;
  readonly usage: string;
  readonly action: (driver: SoftwareVendorDriver, match: readonly string[]) => () => void;
}

const allStates = statesOf(0xff);

const words: readonly Word[] = [
  { pattern: /^revoke(\d+)$/, usage: 'revoke0', action: (driver, [, region]) => () => driver.revoke(Number(region)) },
  { pattern: /^restore(\d+)$/, usage: 'restore0', action: (driver, [, region]) => () => driver.restore(Number(region)) },
  { pattern: /^msi$/, usage: 'msi', action: (driver) => () => driver.raiseMsi() },
  { pattern: /^remove$/, usage: 'remove', action: (driver) => () => driver.remove() },
  { pattern: /^drop-ack$/, usage: 'drop-ack', action: (driver) => () => void (driver.faults.ignoreAcks = true) },
  { pattern: /^hear-ack$/, usage: 'hear-ack', action: (driver) => () => void (driver.faults.ignoreAcks = false) },
  {
    pattern: /^fail-query(\d+)(?: (\w+))?$/,
    usage: 'fail-query0 EIO',
    action: (driver, [, region, name]) => {
      const errno = errnoNamed(name, 'EIO');
      return () => driver.faults.failQuery(Number(region), errno);
    },
  },
  {
    pattern: /^fail-map(\d+)(?: (\w+))?$/,
    usage: 'fail-map0 ENOMEM',
    action: (driver, [, region, name]) => {
      const errno = errnoNamed(name, 'ENOMEM');
      return () => driver.faults.failMap(Number(region), errno);
    },
  },
  {
    pattern: /^fail-irq(?: (\w+))?$/,
    usage: 'fail-irq EMFILE',
    action: (driver, [, name]) => {
      const errno = errnoNamed(name, 'EMFILE');
      return () => driver.faults.failIrq(errno);
    },
  },
  {
    pattern: /^fail-arc ([\w-]+)(?: (\w+))?$/,
    usage: 'fail-arc stop-copy EIO',
    action: (driver, [, label = '', name]) => {
      const errno = errnoNamed(name, 'EIO');
      const to = allStates.find((state) => state === fullLabel('state', label));
      if (to === undefined) throw new Error(`there is no arc to ${label}`);
      return () => driver.faults.failArc(to, errno);
    },
  },
  {
    pattern: /^signal-delay (\S+)$/,
    usage: 'signal-delay 20us',
    action: (driver, [, duration = '']) => {
      const us = microseconds(duration);
      return () => void (driver.faults.signalDelayUs = us);
    },
  },
  {
    pattern: /^arc-latency (\S+)$/,
    usage: 'arc-latency 5ms',
    action: (driver, [, duration = '']) => {
      const us = microseconds(duration);
      return () => void (driver.faults.arcLatencyUs = us);
    },
  },
];

/** What one word of a driver's lane does. Throws at a word that is none, before anything has run. */
export function driverAction(text: string, driver: SoftwareVendorDriver, stall: (duration: string) => void): () => void {
  const label = fullLabel('driver', text);
  const [, stalled] = /^stall (\S+)$/.exec(label) ?? [];
  if (stalled !== undefined) return () => stall(stalled);
  for (const { pattern, action } of words) {
    const match = pattern.exec(label);
    if (match !== null) return action(driver, match);
  }
  throw new Error(`the driver's script says <${text}>; it knows ${[...words.map(({ usage }) => `<${usage}>`), '<stall 50ms>'].join(' ')}`);
}

function errnoNamed(name: string | undefined, usual: Errno): Errno {
  if (name === undefined) return usual;
  if (!isErrno(name)) throw new Error(`the software driver answers no errno ${name}`);
  return name;
}

function microseconds(duration: string): number {
  const us = framesIn(duration, 'us');
  if (us === undefined) throw new Error(`<${duration}> is no duration such as 20us or 5ms`);
  return us;
}
