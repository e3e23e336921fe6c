import fc from 'fast-check';
import { tap, timer } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { withDevice } from '../../src/devices/open.js';
import type { State } from '../../src/devices/port.js';
import { softwareDevice } from '../../src/devices/software/software-device.js';
import { followTrace, marbles, memoryTrace, planOf, readTrace, servedRun, type RunPlan } from '../../src/testing/index.js';

/** What a run told, and its trace. */
function recorded(plan: RunPlan, untilUs: number | undefined, arcLatencyUs: number): { readonly told: readonly string[]; readonly text: string } {
  const record = memoryTrace();
  const told: string[] = [];
  marbles((t) => {
    const device = softwareDevice();
    device.driver.faults.arcLatencyUs = arcLatencyUs;
    const until = untilUs === undefined ? {} : { until: timer(untilUs / 1000, t.clock.scheduler) };
    t.at('3us a 40us b 3ms c', { a: () => device.driver.revoke(0), b: () => device.driver.restore(0), c: () => device.driver.revoke(1) });
    withDevice(device, (opened) => servedRun(opened, { ...plan, ...until }).pipe(tap((line) => told.push(line))), { record, clock: t.clock }).subscribe();
    t.atEnd(() => undefined);
  });
  return { told, text: record.text };
}

const states = fc.array(fc.constantFrom<State>('running', 'stop', 'pre-copy', 'stop-copy'), { maxLength: 5 });

describe('the plan of a recording', () => {
  it('makes servedRun do again what it did, however it was ended', () => {
    fc.assert(fc.property(states, fc.nat(5000), fc.constantFrom(0, 7, 900), fc.constantFrom('forMs', 'until', 'states'), (through, us, latency, ended) => {
      const plan = { states: through, ...(ended === 'forMs' || through.length === 0 ? { forMs: us / 1000 } : {}) };
      const { told, text } = recorded(plan, ended === 'until' ? us : undefined, latency);
      const trace = readTrace(text);
      expect(trace.incomplete).toBeUndefined();
      const asked = told.filter((line) => !line.endsWith('VFIO_E_ARC'));
      expect(followTrace(trace, (device) => servedRun(device, planOf(trace))).values).toEqual(asked);
    }), { numRuns: 60 });
  });

  it('goes as far as a recording that was cut off', () => {
    const { text, told } = recorded({ states: ['pre-copy', 'running'] }, undefined, 7);
    const lines = text.trimEnd().split('\n');
    for (let length = 1; length < lines.length; length += 1) {
      const trace = readTrace(lines.slice(0, length).join('\n'));
      expect(trace.incomplete?.code).toBe('VFIO_E_TRACE');
      const { values } = followTrace(trace, (device) => servedRun(device, planOf(trace)));
      expect(values).toEqual(told.slice(0, values.length));
    }
  });
});
