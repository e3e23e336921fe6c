import { map } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { State } from '../../../../src/devices/port.js';
import { checkMigration, describeMigration, migrationRules, softwareMigrationHarness, virtualRun, type DeviceHarness, type SoftwareMigrationOptions } from '../../../../src/testing/index.js';
import { altered } from '../../../support/devices.js';

const resultsOf = (options: SoftwareMigrationOptions, change: (harness: DeviceHarness) => DeviceHarness = (harness) => harness) =>
  virtualRun((clock) => checkMigration(change(softwareMigrationHarness({ ...options, clock }))));

const reasonsOf = async (options: SoftwareMigrationOptions, change?: (harness: DeviceHarness) => DeviceHarness) =>
  (await resultsOf(options, change)).filter(({ outcome }) => outcome !== 'passed').map(({ rule, outcome, reason }) => `${rule} ${outcome}: ${reason}`);

// In real time, where a busy machine takes its own.
describeMigration({ describe, it }, 'software', { ...softwareMigrationHarness(), deadlineMs: 5000 });

describe('checkMigration', () => {
  it('ends by a signal', async () => {
    await expect(checkMigration({ ...softwareMigrationHarness(), openDevice: () => Promise.reject(new Error('opened')) }, undefined, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'VFIO_E_ABORTED', operation: 'check' });
  });

  const noPreCopy = ['MIGRATION-7 skipped: the device has no PRE_COPY', 'MIGRATION-8 skipped: the device has no PRE_COPY'];

  it.each([[1, noPreCopy], [3, noPreCopy], [5, []], [7, []]])('passes every set of flags: %i', async (migration, skipped) => {
    expect(await reasonsOf({ device: { migration } })).toEqual(skipped);
  });

  it('passes device_state of v1, a device without remaps, and every profile that the driver may speak', async () => {
    expect(await reasonsOf({ device: { migrationVersion: 1 } })).toEqual(['MIGRATION-3 skipped: a write is one arc on this device']);
    expect(await reasonsOf({ device: { remap: false } })).toEqual([]);
    expect(await reasonsOf({ device: { remap: { profile: 'rfc-v4' } } })).toEqual([]);
    expect(await reasonsOf({ device: { remap: { profile: 'saving-layout' } } })).toEqual([]);
  });

  it('takes a device without a reset out of RESUMING by a whole state, and asks nothing of one that it finds there', async () => {
    const noReset: SoftwareMigrationOptions['around'] = (sound) => altered(sound, (port) => ({ info: () => port.info().pipe(map((info) => ({ ...info, reset: false }))) }));
    expect(await reasonsOf({ around: noReset })).toEqual(['MIGRATION-11 skipped: the device has no reset', 'MIGRATION-12 skipped: the device has no reset']);
    const asked: State[] = [];
    const left: SoftwareMigrationOptions['around'] = (sound) => altered(noReset(sound), (port) => ({
      getState: () => port.getState().pipe(map(() => 'resuming')),
      setState: (to) => { asked.push(to); return port.setState(to); },
    }));
    const failed = (await resultsOf({ around: left })).filter(({ outcome }) => outcome === 'failed');
    expect(failed.map(({ reason }) => reason)).toContain('the device is in RESUMING without a session or anything to load, and has no reset: nothing more is asked of it');
    expect([asked, failed.length > 9]).toEqual([[], true]);
  });

  it('skips everything on a device that cannot migrate, and what hurts unless it is asked for', async () => {
    const cannot = await resultsOf({ device: { migration: false } });
    expect(cannot.map(({ outcome, reason }) => [outcome, reason])).toEqual(migrationRules.map(() => ['skipped', 'the device cannot migrate']));
    expect(await reasonsOf({}, (harness) => ({ patienceMs: 5000, ...(harness.clock === undefined ? {} : { clock: harness.clock }), openDevice: () => harness.openDevice(), dispose: () => harness.dispose() }))).toEqual([
      'MIGRATION-10 skipped: nobody says what a guest would see of its state',
      'MIGRATION-11 skipped: only on request: it may hurt the device',
    ]);
  });

  it('never asks for a way that is blocked', async () => {
    const asked = new Set<string>();
    await resultsOf({
      around: (sound) => altered(sound, (port) => {
        let at: State = 'running';
        return {
          setState: (to) => { asked.add(`${at} -> ${to}`); at = to; return port.setState(to); },
          reset: () => { at = 'running'; return port.reset(); },
        };
      }),
    });
    expect(asked.size).toBeGreaterThan(30);
    expect([...asked].filter((way) => /^stop-copy -> pre-copy|error/.test(way))).toEqual([]);
  });

  it('tells each result as it is known', async () => {
    const told: string[] = [];
    const results = await virtualRun((clock) => checkMigration(softwareMigrationHarness({ clock }), ({ rule }) => { told.push(rule); }));
    expect(told).toEqual(results.map(({ rule }) => rule));
  });
});
