import type { Subscription } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { memoryTransport } from '../../src/transport/memory-transport.js';
import type { Connection } from '../../src/transport/transport.js';
import { virtualClock, type VirtualClock } from '../support/virtual-clock.js';

function connected(clock: VirtualClock, options = {}): { readonly a: Connection; readonly b: Connection; readonly cut: () => void } {
  const transport = memoryTransport(options);
  const ends: Connection[] = [];
  const take = { next: (one: Connection) => ends.push(one), error: (error: unknown) => { throw error; } };
  transport.listening.open(clock).subscribe(take);
  transport.connecting.open(clock).subscribe(take);
  const [b, a] = ends;
  if (a === undefined || b === undefined) throw new Error('not connected');
  return { a, b, cut: () => transport.cut() };
}

/** What a call says, as soon as it says it. */
function heard(call: ReturnType<Connection['read']>): unknown[] {
  const said: unknown[] = [];
  call.subscribe({ next: (value) => said.push(value === undefined ? 'end' : Buffer.from(value).toString()), error: (error: unknown) => said.push(error) });
  return said;
}

function written(to: Connection, ...what: readonly string[]): Subscription {
  return to.write(what.map((one) => Buffer.from(one))).subscribe({ error: () => undefined });
}

describe('a connection in memory', () => {
  it('carries bytes in both directions, after their time', () => {
    const clock = virtualClock();
    const { a, b } = connected(clock, { latencyMs: 5 });
    const atB = heard(b.read());
    const atA = heard(a.read());
    written(a, 'one', 'two');
    clock.advanceMs(4);
    expect(atB).toEqual([]);
    clock.advanceMs(1);
    written(b, 'back');
    clock.advanceMs(5);
    expect([atB, atA]).toEqual([['onetwo'], ['back']]);
  });

  it('holds a writer back while too much is on its way', () => {
    const clock = virtualClock();
    const { a, b } = connected(clock, { capacityBytes: 4 });
    const done: string[] = [];
    written(a, '1234').add(() => done.push('first'));
    clock.flush();
    expect(done).toEqual([]);
    expect(heard(b.read())).toEqual(['1234']);
    expect(done).toEqual(['first']);
  });

  it('ends after what was written, and a cut loses it', () => {
    const clock = virtualClock();
    const first = connected(clock);
    written(first.a, 'last');
    first.a.close();
    first.a.close();
    clock.flush();
    expect([heard(first.b.read()), heard(first.b.read())]).toEqual([['last'], ['end']]);

    const second = connected(clock);
    const reading = heard(second.b.read());
    written(second.a, 'lost');
    second.cut();
    clock.flush();
    expect(reading).toEqual([expect.objectContaining({ code: 'VFIO_E_LINK' })]);
    expect(heard(second.a.read())).toEqual([expect.objectContaining({ code: 'VFIO_E_LINK' })]);
  });

  it('is made anew by who hears of the cut: that one lives', () => {
    const clock = virtualClock();
    const transport = memoryTransport();
    const fail = (error: unknown): never => { throw error; };
    const ends: Connection[] = [];
    const connect = (): void => {
      transport.listening.open(clock).subscribe({ next: (one) => ends.push(one), error: fail });
      transport.connecting.open(clock).subscribe({ next: (one) => ends.push(one), error: fail });
    };
    connect();
    ends[0]?.read().subscribe({ error: connect });
    transport.cut();
    const [, , listening, connecting] = ends;
    if (listening === undefined || connecting === undefined) throw new Error('not connected anew');
    written(connecting, 'again');
    clock.flush();
    expect(heard(listening.read())).toEqual(['again']);
  });

  it('is not made for who has gone before the other came', () => {
    const clock = virtualClock();
    const transport = memoryTransport();
    const came: string[] = [];
    const open = (side: 'listening' | 'connecting', name: string): Subscription => transport[side].open(clock).subscribe({ next: () => came.push(name), error: (error: unknown) => { throw error; } });
    open('listening', 'gone').unsubscribe();
    open('connecting', 'a');
    expect(came).toEqual([]);
    open('listening', 'b');
    expect(came.sort()).toEqual(['a', 'b']);
  });
});
