import type { IovaRange } from '../../../devices/port.js';
import { wayOf } from '../../../devices/protocol/migration-ways.js';
import { codeOf, settled, success } from '../patience.js';
import { demand, skip, type Rule } from '../rule.js';
import type { DeviceHarness, DeviceNeed } from './harness.js';
import { Opened } from './opened.js';

const pageSize = 4096;
/** Nobody has any of this in the IOMMU, but where a rule puts it there. */
const logged: IovaRange = { iova: 0x10_0000n, size: 16 * pageSize };
const part = { ...logged, pageSize };
/** Where a rule has the device write: one page in the middle. */
const written = 5;

/** A log that has begun. */
interface Log {
  readonly opened: Opened;
  readonly tracks: number;
  readonly report: () => Promise<Uint8Array>;
}

/** On a device that keeps one. */
async function begun(harness: DeviceHarness): Promise<Log> {
  const opened = await Opened.of(harness);
  const { port, steps } = opened;
  const started = await settled(steps.value(port.dmaLogging.start({ ranges: [logged], pageSize }), 'the begin of a log'));
  if (codeOf(started) === 'VFIO_E_UNSUPPORTED') skip('the device keeps no log of what it writes by DMA');
  return { opened, tracks: success(started, 'the begin of a log'), report: () => steps.value(port.dmaLogging.report(part), 'a report') };
}

/** A check with a log that has begun, and that is stopped behind it. */
function logging(check: (log: Log, harness: DeviceHarness) => Promise<void> | void): (harness: DeviceHarness) => Promise<void> {
  return async (harness) => {
    const log = await begun(harness);
    try {
      await check(log, harness);
    } finally {
      const { port, steps } = log.opened;
      await settled(steps.value(port.dmaLogging.stop(), 'the end of the log'));
    }
  };
}

/** Lets the device reach the logged range. */
async function reachable({ port, steps }: Opened): Promise<void> {
  const memory = await steps.value(port.allocateDma(logged.size), 'memory');
  await steps.value(port.dmaMap({ ...logged, source: memory, read: true, write: true }), 'its way into the IOMMU');
}

const isWritten = (bits: Uint8Array): boolean => ((bits[written >> 3] ?? 0) & (1 << written % 8)) !== 0;
const writePage = (opened: Opened, harness: DeviceHarness): Promise<unknown> => {
  const call = harness.writes?.(opened.device, logged.iova + BigInt(written * pageSize), 8);
  return call === undefined ? skip('nobody says how it writes by DMA') : opened.steps.value(call, 'a write by DMA');
};

/** What a driver promises that logs what its device writes by DMA (VFIO_DEVICE_FEATURE_DMA_LOGGING_*). */
export const dirtyLogRules: readonly Rule<DeviceHarness, DeviceNeed>[] = [
  {
    id: 'LOG-1',
    title: 'it tracks in pages of a power of two, 4096 bytes or more',
    check: logging(({ tracks }) => {
      demand(tracks >= pageSize && Number.isInteger(Math.log2(tracks)), `it tracks pages of ${tracks} bytes`);
    }),
  },
  {
    id: 'LOG-2',
    title: 'it keeps one log at a time, and another once that was stopped',
    check: logging(async ({ opened: { port, steps } }) => {
      await steps.fails('VFIO_E_BUSY', port.dmaLogging.start({ ranges: [logged], pageSize }), 'a second log');
      await steps.value(port.dmaLogging.stop(), 'the end of the log');
      await steps.value(port.dmaLogging.start({ ranges: [logged], pageSize }), 'another log');
    }),
  },
  {
    id: 'LOG-3',
    title: 'what was reported is clean again',
    check: logging(async ({ report }) => {
      await report();
      const again = await report();
      demand(again.every((bits) => bits === 0), 'nobody let it write anything between two reports, and the second has pages');
    }),
  },
  {
    id: 'LOG-4',
    title: 'what it writes is in the next report',
    needs: ['writes'],
    check: logging(async ({ opened, report }, harness) => {
      await reachable(opened);
      await report();
      await writePage(opened, harness);
      demand(isWritten(await report()), `page ${written} was written, and is not in the report`);
    }),
  },
  {
    id: 'LOG-5',
    title: 'it reports of nothing that is not logged',
    check: logging(async ({ opened: { port, steps } }) => {
      const refuses = async (call: typeof part, what: string): Promise<void> => {
        const outcome = await settled(steps.value(port.dmaLogging.report(call), what));
        demand('error' in outcome, `${what} should have failed`);
      };
      await refuses({ ...part, iova: part.iova + BigInt(part.size) }, 'a report of what is not logged');
      await steps.value(port.dmaLogging.stop(), 'the end of the log');
      await refuses(part, 'a report of a log that was stopped');
    }),
  },
  {
    id: 'LOG-6',
    title: 'a log goes on when the device stops',
    needs: ['writes'],
    check: logging(async ({ opened, report }, harness) => {
      const { device: { migration }, port, steps } = opened;
      if (migration === undefined || wayOf(migration, 'running', 'stop') === undefined) skip('the device cannot be stopped');
      await reachable(opened);
      await report();
      await writePage(opened, harness);
      await steps.value(port.setState('stop'), 'device_state stop');
      const bits = await settled(report());
      await steps.value(port.setState('running'), 'device_state running');
      demand(isWritten(success(bits, 'a report in STOP')), `page ${written} was written before it stopped, and is not in the report`);
    }),
  },
  {
    id: 'LOG-7',
    title: 'a log ends when its device is closed',
    async check(harness) {
      await begun(harness);
      await harness.dispose();
      const { opened } = await begun(harness);
      await opened.steps.value(opened.port.dmaLogging.stop(), 'the end of the log');
    },
  },
];
