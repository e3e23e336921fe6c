import { constants } from 'node:os';
import { of, Subject } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { Reply } from '../../../src/devices/vfio-user/connection.js';
import { ServedLane, type ServedCommand } from '../../../src/devices/vfio-user/served-lane.js';

const nothing: Reply = { payload: new Uint8Array(0), fds: [] };

/** A lane whose first command, VERSION, is answered when `first` says so, and all others at once. */
function lane() {
  const first = new Subject<Reply>();
  const told: (number | string)[] = [];
  const closed: number[] = [];
  const one = new ServedLane({
    serve: ({ name }) => (name === 'VERSION' ? first : of(nothing)),
    errnoOf: () => constants.errno.EIO,
    closeFds: (fds) => closed.push(...fds),
    moved: () => undefined,
    failed: () => told.push('failed'),
  });
  const command = (name: ServedCommand['name'], n: number): ServedCommand => ({ name, payload: new Uint8Array(0), fds: [n], answer: () => told.push(n) });
  return { first, told, closed, one, command };
}

describe('a lane of commands', () => {
  it('serves in their order, however many have waited for the first', () => {
    const count = 3_000;
    const { first, told, closed, one, command } = lane();
    one.push(command('VERSION', 0));
    for (let n = 1; n < count; n += 1) one.push(command('DEVICE_GET_INFO', n));
    expect([told, one.length]).toEqual([[], count - 1]);
    first.next(nothing);
    first.complete();
    expect([told.length, told.every((n, at) => n === at)]).toEqual([count, true]);
    expect([one.length, one.bytes, one.fds]).toEqual([0, 0, 0]);
    expect(closed).toEqual(told);
    one.push(command('DEVICE_GET_INFO', count));
    expect(told.at(-1)).toBe(count);
  });

  it('counts an empty command for a KiB, so that a bound in bytes bounds their number', () => {
    const { one, command } = lane();
    for (let n = 0; n <= 8192; n += 1) one.push(command('VERSION', n));
    expect([one.length, one.bytes]).toEqual([8192, 8 * 1024 * 1024]);
    one.end();
  });

  it('that is ended by one of them begins no further one, and closes the fds of each once', () => {
    const { first, told, closed, one, command } = lane();
    one.push(command('VERSION', 0));
    one.push({ ...command('DEVICE_GET_INFO', 1), answer: () => one.end() });
    one.push(command('DEVICE_GET_INFO', 2));
    first.next(nothing);
    first.complete();
    expect([told, one.length, closed.sort()]).toEqual([[0], 0, [0, 1, 2]]);
  });
});
