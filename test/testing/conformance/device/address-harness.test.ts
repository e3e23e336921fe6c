import { describe, expect, it } from 'vitest';
import { softwareDevice } from '../../../../src/devices/index.js';
import { checkMigration, deviceMigrationHarness, virtualRun } from '../../../../src/testing/index.js';

describe('deviceMigrationHarness', () => {
  it('opens one device again and again, and leaves it closed', async () => {
    const software = softwareDevice();
    const results = await virtualRun((clock) => checkMigration(deviceMigrationHarness(software, { clock })));
    expect(results.filter(({ outcome }) => outcome === 'failed')).toEqual([]);
    expect(results.filter(({ outcome }) => outcome === 'skipped').map(({ rule }) => rule)).toEqual(['MIGRATION-10', 'MIGRATION-11']);
    const { opens, vmas, irqs, trace } = software.driver;
    expect([opens, vmas, irqs]).toEqual([0, 0, 0]);
    expect(trace.filter(({ event }) => event === 'open').length).toBeGreaterThan(0);
  });

  it('has every rule say why the device does not open', async () => {
    const software = softwareDevice();
    software.driver.remove();
    const results = await virtualRun((clock) => checkMigration(deviceMigrationHarness(software, { clock })));
    expect(results.filter(({ outcome }) => outcome === 'failed').every(({ reason }) => reason?.includes('VFIO_E_NO_DEVICE'))).toBe(true);
  });
});
