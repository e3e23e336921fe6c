import { describe, expect, it } from 'vitest';
import type { SoftwareDeviceOptions } from '../../../../src/devices/software/options.js';
import { softwareDevice } from '../../../../src/devices/index.js';
import { checkDevice, describeDevice, deviceMigrationHarness, deviceRules, softwareMigrationHarness, virtualRun } from '../../../../src/testing/index.js';

async function reasonsOf(device: SoftwareDeviceOptions): Promise<readonly string[]> {
  const results = await virtualRun((clock) => checkDevice(softwareMigrationHarness({ clock, device })));
  expect(results.map(({ rule }) => rule)).toEqual(deviceRules.map(({ id }) => id));
  expect(results.filter(({ outcome }) => outcome === 'failed')).toEqual([]);
  return [...new Set(results.filter(({ outcome }) => outcome === 'skipped').map(({ reason = '' }) => reason))];
}

describeDevice({ describe, it }, 'the software device', softwareMigrationHarness());

describe('checkDevice', () => {
  it('ends by a signal', async () => {
    await expect(checkDevice({ ...softwareMigrationHarness(), openDevice: () => Promise.reject(new Error('opened')) }, undefined, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'VFIO_E_ABORTED', operation: 'check' });
  });

  const noNames = 'its signals name no region';
  const noSaving = 'it has no saving layouts';
  const noNumber = 'its acks carry no number';

  it.each<[string, SoftwareDeviceOptions, readonly string[]]>([
    ['a doorbell', {}, [noNames, noSaving]],
    ['a bitmap', { remap: { signals: 'bitmap' } }, [noSaving]],
    ['mappings that ack', { remap: { ack: 'none' } }, [noNames, noNumber, noSaving]],
    ['rfc-v4', { remap: { profile: 'rfc-v4' } }, [noNames, noNumber, 'it does not say how long it waits', noSaving]],
    ['saving layouts', { remap: { profile: 'saving-layout' } }, ['its layouts change without an irq']],
    ['device_state of v1', { migrationVersion: 1 }, [noNames, noSaving]],
    ['no migration', { migration: false }, ['there is no way into STOP_COPY', 'the device cannot be stopped']],
    ['no remaps', { remap: false }, ['its layouts never change']],
    ['no PCI', { face: 'non-pci' }, ['it is no PCI function', noNames, noSaving]],
    ['no log', { dmaLogging: false }, [noNames, noSaving, 'the device keeps no log of what it writes by DMA']],
    ['nothing to map', { regions: [{ index: 2, size: 0x1000 }], remap: false }, ['the device offers nothing to map', 'the device offers no area of several pages', 'it is no PCI function', 'its layouts never change']],
  ])('passes a device with %s, and says what it did not ask', async (_, device, skipped) => {
    expect(await reasonsOf(device)).toEqual(skipped);
  });

  it('asks for what may hurt on request only, and tells each result as it is known', async () => {
    const told: string[] = [];
    const results = await virtualRun((clock) => checkDevice({ ...softwareMigrationHarness({ clock }), destructive: false }, ({ rule }) => { told.push(rule); }));
    expect(told).toEqual(results.map(({ rule }) => rule));
    expect(results.filter(({ reason }) => reason === 'only on request: it may hurt the device').map(({ rule }) => rule)).toEqual(['IRQ-4', 'IRQ-5', 'IRQ-6', 'REMAP-6']);
  });

  it('does not ask for what a harness says that it lacks', async () => {
    const results = await virtualRun((clock) => checkDevice(deviceMigrationHarness(softwareDevice(), { clock, lacks: { irqs: 'its driver keeps an eventfd that it has put' } })));
    expect(results.filter(({ reason }) => reason === 'its driver keeps an eventfd that it has put').map(({ rule }) => rule)).toEqual(['IRQ-3', 'IRQ-4', 'IRQ-5', 'IRQ-6']);
  });
});
