import { afterAll, describe, it } from 'vitest';
import { openKernelPort } from '../../src/devices/kernel/open-kernel-port.js';
import type { PortSource } from '../../src/devices/open.js';
import { deviceMigrationHarness, describeMigration, sampleState } from '../../src/testing/index.js';
import { SampleMdev } from '../support/mdev.js';

/** An emulated processor may take seconds to start a thread: no clock decides here. */
const patienceMs = 20_000;

describe.each([2, 1] as const)('device_state of version %i', (migration) => {
  let mdev: SampleMdev | undefined;
  afterAll(() => mdev?.[Symbol.dispose]());
  const sample: PortSource = { open: (clock) => openKernelPort((mdev ??= new SampleMdev({ ackTimeoutMs: patienceMs, migration })).uuid, clock) };

  describeMigration({ describe, it }, 'the sample driver', deviceMigrationHarness(sample, { patienceMs, destructive: true, state: sampleState }));
});
