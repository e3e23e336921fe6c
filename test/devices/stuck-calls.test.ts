import { NEVER, Subject, throwError } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { StuckCalls, type StuckCall } from '../../src/devices/stuck-calls.js';

function seen(calls: StuckCalls): { readonly values: readonly (readonly string[])[]; readonly ended: () => boolean } {
  const values: (readonly string[])[] = [];
  let ended = false;
  calls.cell.values.subscribe({ next: (now: readonly StuckCall[]) => values.push(now.map(({ call }) => call)), error: () => undefined, complete: () => { ended = true; } });
  return { values, ended: () => ended };
}

describe('StuckCalls', () => {
  it('are there until they return, however that ends', () => {
    const calls = new StuckCalls();
    const { values } = seen(calls);
    const returned = new Subject<unknown>();
    calls.report({ call: 'device_state stop', sinceNs: 1n }, returned);
    calls.report({ call: 'close', sinceNs: 2n }, NEVER);
    returned.next('a value is no return');
    returned.complete();
    calls.report({ call: 'gone at once', sinceNs: 3n }, throwError(() => new Error('x')));
    expect(values).toEqual([[], ['device_state stop'], ['device_state stop', 'close'], ['close'], ['close', 'gone at once'], ['close']]);
  });

  it('are none when the device is released', () => {
    const calls = new StuckCalls();
    const { values, ended } = seen(calls);
    const returned = new Subject<unknown>();
    calls.report({ call: 'close', sinceNs: 2n }, returned);
    calls.complete();
    returned.complete();
    expect([values, ended()]).toEqual([[[], ['close'], []], true]);
  });
});
