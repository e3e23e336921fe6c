import { describe, expect, it } from 'vitest';
import { checkPort, portRules, softwarePortHarness, virtualRun, type PortHarness } from '../../../../src/testing/index.js';

const resultsOf = (change: (harness: PortHarness) => PortHarness) => virtualRun((clock) => checkPort(change(softwarePortHarness({ clock }))));

describe('checkPort', () => {
  it('ends by a signal', async () => {
    await expect(checkPort(softwarePortHarness(), { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'VFIO_E_ABORTED', operation: 'check' });
  });

  it('gives one result for each rule, in their order', async () => {
    const results = await resultsOf((harness) => harness);
    expect(results.map(({ rule }) => rule)).toEqual(portRules.map(({ id }) => id));
    expect(results.filter(({ outcome }) => outcome !== 'passed')).toEqual([]);
  });

  it('skips what the backend lacks, with its reason', async () => {
    const results = await resultsOf((harness) => ({ ...harness, lacks: { dma: 'no IOMMU here' } }));
    const skipped = results.filter(({ outcome }) => outcome === 'skipped');
    expect(new Set(skipped.map(({ reason }) => reason))).toEqual(new Set(['no IOMMU here']));
    expect(skipped.map(({ rule }) => rule)).toEqual(['PORT-12.1', 'PORT-12.2', 'PORT-12.3', 'PORT-12.4', 'PORT-13.1', 'PORT-13.2']);
  });

  it('does not judge what a port does not promise: calls that answer in a later turn', async () => {
    const results = await virtualRun((clock) => checkPort(softwarePortHarness({
      clock,
      around: (port) => Object.create(port, { traits: { value: { ...port.traits, remapInOneTurn: false } } }) as typeof port,
    })));
    expect(results.find(({ rule }) => rule === 'PORT-2.1')).toMatchObject({ outcome: 'skipped', reason: expect.stringContaining('remapInOneTurn') as unknown });
  });

  it('fails every rule where no port opens, and goes on', async () => {
    const results = await resultsOf((harness) => ({ ...harness, openPort: () => Promise.reject(new Error('no device')) }));
    expect(results.every(({ outcome, reason }) => outcome === 'failed' && reason === 'no device')).toBe(true);
    expect(results.length).toBe(portRules.length);
  });
});
