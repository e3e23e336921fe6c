import { describe, expect, it } from 'vitest';
import { checkDevice, checkMigration, deviceMigrationHarness } from '../../src/testing/index.js';
import { kernelWays } from '../support/kernel-ways.js';
import { vfioFds } from '../support/mdev.js';
import { Mtty } from '../support/mtty.js';

/** The driver of 6.1 does not migrate. */
const early = process.env['VFIO_RX_KERNEL_SERIES'] === '6.1';

describe('mtty as a device that migrates', () => {
  it('answers 0 where PRE_COPY has no more for now, keeps its state over a close, and breaks no other rule', async () => {
    const mtty = new Mtty();
    try {
      const results = await checkMigration(deviceMigrationHarness(mtty.uuid, { patienceMs: 20_000, destructive: true }));
      const failed = results.filter(({ outcome }) => outcome === 'failed').map(({ rule, reason }) => `${rule}: ${reason}`);
      const skipped = new Set(results.filter(({ outcome }) => outcome === 'skipped').map(({ reason }) => reason));
      const noState = 'nobody says what a guest would see of its state';
      expect({ failed, skipped }).toEqual(early
        ? { failed: [], skipped: new Set(['the device cannot migrate', noState]) }
        : {
            failed: [
              expect.stringMatching(/^MIGRATION-7: read\(\) of the data_fd answered 0/),
              'MIGRATION-14: it was closed in stop, and is opened in stop',
            ],
            skipped: new Set([noState, 'the device has no reset']),
          });
      expect(vfioFds()).toEqual([]);
    } finally {
      mtty[Symbol.dispose]();
    }
  });

  it('keeps the rules of any device, but for its log of written pages, which it begins and does not keep', async () => {
    const mtty = new Mtty();
    try {
      // Early it puts an eventfd a second time where an irq is registered again.
      const results = await checkDevice(deviceMigrationHarness(mtty.uuid, { patienceMs: 20_000, destructive: !early }));
      const failed = results.filter(({ outcome }) => outcome === 'failed').map(({ rule, reason }) => `${rule}: ${reason}`);
      // The kernel's bitmaps of a log belong to iommufd; with it mtty reports, also what is not logged.
      const log = kernelWays.length > 1 ? 'LOG-5: a report of what is not logged should have failed' : (expect.stringMatching(/^LOG-3: .*DMA_LOGGING_REPORT: .*EOPNOTSUPP/) as string);
      expect(failed).toEqual(early ? [] : [log]);
      expect(results.filter(({ outcome }) => outcome === 'passed').map(({ rule }) => rule)).toEqual(expect.arrayContaining(['REGION-1', 'REGION-4', 'IRQ-1', 'IRQ-3']));
      expect(vfioFds()).toEqual([]);
    } finally {
      mtty[Symbol.dispose]();
    }
  });
});
