import { afterEach, describe, expect, it } from 'vitest';
import { openKernelPort } from '../../src/devices/kernel/open-kernel-port.js';
import type { PortSource } from '../../src/devices/open.js';
import { deviceResults } from '../../src/testing/conformance/device/check-device.js';
import { checkDevice, deviceMigrationHarness, deviceRules, migrationRules, type DeviceHarness, type RuleResult } from '../../src/testing/index.js';
import { nothingHeld, SampleMdev, vfioFds, type SampleOptions } from '../support/mdev.js';
import { VfioPci } from '../support/pci.js';

/** An emulated processor may take seconds to start a thread: no clock decides here. */
const patienceMs = 20_000;

const failed = (results: readonly RuleResult[]): readonly string[] => results.filter(({ outcome }) => outcome === 'failed').map(({ rule, reason }) => `${rule}: ${reason}`);
const passed = (results: readonly RuleResult[]): readonly string[] => results.filter(({ outcome }) => outcome === 'passed').map(({ rule }) => rule);
const reasons = (results: readonly RuleResult[]): ReadonlySet<string | undefined> => new Set(results.filter(({ outcome }) => outcome === 'skipped').map(({ reason }) => reason));

function harnessOf(mdev: SampleMdev, options: Partial<Pick<DeviceHarness, 'deadlineMs'>> = {}): DeviceHarness {
  const source: PortSource = { open: (clock) => openKernelPort(mdev.uuid, clock) };
  return deviceMigrationHarness(source, { patienceMs, destructive: true, ...options });
}

const noDma = 'nobody says how it writes by DMA';
const noLog = 'the device keeps no log of what it writes by DMA';
const noSaving = 'it has no saving layouts';
const noNames = 'its signals name no region';
const noNumber = 'its acks carry no number';
const noIrq = 'its layouts change without an irq';

afterEach(() => {
  expect(vfioFds()).toEqual([]);
});

describe('the rules of any device', () => {
  it.each([
    ['doorbell-value', {}, [noNames, noSaving, noDma, noLog]],
    ['bitmap-value', { pages: 2 }, [noSaving]],
    ['doorbell-none', { face: 'non-pci' }, [noNames, noNumber, noSaving]],
    ['rfc-v4', { migration: 1 }, [noNames, noNumber, 'it does not say how long it waits', noSaving]],
    ['saving-layout', {}, [noIrq]],
    ['static', {}, ['its layouts never change', noDma, noLog]],
  ] as const)('hold for the sample driver, row %s', { timeout: 120_000 }, async (profile, options: SampleOptions, skipped) => {
    using mdev = new SampleMdev({ profile, ackTimeoutMs: 1000, ...options });
    // What is not about remaps is the same in every row.
    const results = await deviceResults(harnessOf(mdev), deviceRules.filter(({ id }) => profile === 'doorbell-value' || profile === 'static' || id.startsWith('REMAP-')));
    expect(failed(results)).toEqual([]);
    expect(reasons(results)).toEqual(new Set(skipped));
    expect({ ...mdev.held() }).toEqual(nothingHeld);
  });

  it.each([
    ['edu', () => VfioPci.edu(), ['the device has no reset']],
    ['e1000e', () => VfioPci.networkCard(), []],
  ] as const)('hold for vfio-pci: %s', { timeout: 120_000 }, async (_, bind, skipped) => {
    using pci = bind();
    const results = await checkDevice(deviceMigrationHarness(pci.address, { patienceMs, destructive: true }));
    expect(failed(results)).toEqual([]);
    expect(reasons(results)).toEqual(new Set([...skipped, 'its layouts never change', noDma, noLog]));
    expect(passed(results)).toEqual(expect.arrayContaining(['REGION-2', 'REGION-4', 'IRQ-3', 'IRQ-4', 'IRQ-5', 'IRQ-6']));
  });
});

/** What each switch of the sample driver breaks, and nothing else; the first is the one that it is for. */
const broken: readonly { readonly switches: Readonly<Record<string, number | string>>; readonly options?: SampleOptions; readonly group?: string; readonly breaks: readonly string[]; readonly because: string }[] = [
  { switches: { ignore_acks: 1 }, breaks: ['REMAP-3', 'REMAP-4', 'REMAP-6', 'REMAP-9', 'REMAP-10'], because: 'VFIO_E_ACK_TIMEOUT' },
  { switches: { drain: 'always' }, breaks: ['REMAP-3', 'REMAP-4', 'REMAP-6', 'REMAP-7', 'REMAP-8', 'REMAP-9', 'REMAP-10'], because: 'and nothing had been signalled' },
  { switches: { signal_before_layout: 1 }, breaks: ['REMAP-4'], because: 'all that was offered is offered still' },
  { switches: { add_one: 1 }, options: { profile: 'bitmap-value' }, breaks: ['REMAP-5'], because: 'does not name region' },
  { switches: { signal_undeclared: 1 }, options: { profile: 'bitmap-value' }, breaks: ['REMAP-5'], because: 'not declared' },
  { switches: { take_any_ack: 1 }, breaks: ['REMAP-6'], because: 'by an ack of what was never sent' },
  { switches: { silent_roll_back: 1 }, breaks: ['REMAP-7'], because: 'the signal of the remap irq did not come' },
  { switches: { ignore_disable: 1 }, breaks: ['REMAP-8'], because: 'should end with VFIO_E_CANCELED' },
  { switches: { stall_ms: 1500 }, group: 'MIGRATION-13', breaks: ['MIGRATION-13'], because: 'more than 1000' },
  { switches: { fail_arc: 'STOP' }, group: 'MIGRATION-2', breaks: ['MIGRATION-2'], because: 'device_state' },
];

describe('a switch of the sample driver', () => {
  it.each(broken)('$switches breaks $breaks, and nothing else', { timeout: 120_000 }, async ({ switches, options, group = 'REMAP', breaks, because }) => {
    using mdev = new SampleMdev({ ackTimeoutMs: 700, ...options });
    for (const [name, value] of Object.entries(switches)) mdev.write(name, value);
    const rules = [...deviceRules, ...migrationRules].filter(({ id }) => id === group || id.startsWith(`${group}-`));
    const harness = { ...harnessOf(mdev, { deadlineMs: 1000 }), patienceMs: 3000 };
    const results = await deviceResults(harness, rules);
    expect(failed(results).filter((line) => !breaks.some((rule) => line.startsWith(`${rule}:`)))).toEqual([]);
    expect(results.filter(({ outcome }) => outcome === 'failed').map(({ rule }) => rule)).toEqual(breaks);
    expect(results.find(({ rule }) => rule === breaks[0])?.reason).toContain(because);
    for (const name of Object.keys(switches)) mdev.write(name, name === 'drain' ? 'never' : name === 'fail_arc' ? 'none' : 0);
    expect({ ...mdev.held() }).toEqual(nothingHeld);
  });
});
