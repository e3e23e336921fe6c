import { EMPTY, NEVER, of } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { portChannel, type Lane, type PortEvent } from '../../src/diagnostics.js';
import { marbles, recordLanes, type MarbleTest } from '../../src/testing/index.js';

const device = { name: 'dev0' };

/** Publishes as a port does: now, on the clock of the test. */
function publisher(t: MarbleTest): (lane: Lane, label: string, more?: Partial<PortEvent>) => void {
  return (lane, label, more) => portChannel.publish({ device: device.name, atNs: t.clock.nowNs(), lane, label, ...more });
}

/** A revoke and a restore of region 0, as the remap pipeline serves them. */
function remapRun(t: MarbleTest): void {
  const happens = publisher(t);
  t.at('--abc--------def', {
    a: () => {
      happens('state', 'pre-copy', { phase: 'begin' });
      happens('driver', 'revoke0');
      happens('signal', '1');
    },
    b: () => {
      happens('query', 'q0');
      happens('query', 'q2');
    },
    c: () => {
      happens('unmap', 'u0');
      happens('ack', '1');
    },
    d: () => happens('state', 'pre-copy', { phase: 'end' }),
    e: () => {
      happens('driver', 'restore0');
      happens('signal', '1');
    },
    f: () => {
      happens('query', 'q0');
      happens('map', 'm0');
      happens('ack', '1');
    },
  });
}

describe('device lanes', () => {
  it('show a remap as a picture', () => {
    marbles((t) => {
      remapRun(t);
      t.expectDevice(device).toShow({
        driver: '--<revoke0>-       - --------- <restore0>',
        signal: '--    1    -       - ---------      1',
        query: ' --    -    <q0,q2> - ---------      -     q',
        unmap: ' --    -    -       u',
        map: '   --    -    -       - ---------      -     m',
        ack: '   --    -    -       1 ---------      -     1',
        state: ' --   [p    -       - --------]',
      });
    });
  });

  it('take long and short names, and compare only what is given', () => {
    marbles((t) => {
      remapRun(t);
      t.expectDevice(device).toShow({ query: '---<0,2>-----------0', state: '--[<pre-copy>----------]', driver: '--<revoke>-----------<restore>' });
      t.expectDevice({ name: 'another' }).toShow({ query: '', ack: '-' });
    });
  });

  it('bracket calls that begin and end in one frame, and that fail', () => {
    marbles((t) => {
      const happens = publisher(t);
      t.at('-a--b-c', {
        a: () => {
          happens('state', 'stop', { phase: 'begin' });
          happens('state', 'stop', { phase: 'end' });
        },
        b: () => happens('state', 'stop-copy', { phase: 'begin' }),
        c: () => {
          happens('state', 'error', { phase: 'end', error: new Error('ETIMEDOUT') });
          happens('query', 'q1', { error: new Error('EIO') });
        },
      });
      t.expectDevice(device).toShow({ state: '-<[s,]>--[c-]#', query: '------<q1#>' });
    });
    expect(failure((t) => {
      const happens = publisher(t);
      t.at('b-c', { b: () => happens('state', 'stop', { phase: 'begin' }), c: () => happens('state', 'error', { phase: 'end', error: new Error('EBUSY') }) });
      t.expectDevice(device).toShow({ state: '[s-]' });
    })).toContain('frame 2: expected ], ]# came');
  });

  it('fail with the lanes under each other, padded, each first difference marked', () => {
    expect(failure((t) => {
      remapRun(t);
      t.expectDevice(device).toShow({ unmap: '----u', query: '---<q0,q2>----------q', ack: '----1-1' });
    })).toBe(`dev0: lanes query, ack differ

query  expected  ---<q0,q2>-   ---------<q0>-
       actual    ---<q0,q2>-   ----------   <q0>
                                        ^ frame 14: expected <q0>, nothing came (it came at 15)
unmap            ----      <u0>----------   -
ack    expected  ----      1   -1--------   -
       actual    ----      1   ----------   1
                                ^ frame 6: expected <1>, nothing came (it came at 15)`);
  });

  it('say what is wrong with a lane', () => {
    expect(failure((t) => t.expectDevice(device).toShow({}))).toBe('toShow() without a lane asserts nothing');
    expect(failure((t) => t.expectDevice(device).toShow({ state: '--[' }))).toBe('marbles "--[", column 3: "[" needs the name of the state right behind it: "[s---]" or "[<pre-copy>---]"');
  });
});

describe('toBeReleased', () => {
  it('holds when the teardown is over without an error', () => {
    marbles((t) => t.expectDevice({ ...device, released: of({ what: 'device fd closed' }) }).toBeReleased());
    expect(failure((t) => t.expectDevice({ ...device, released: NEVER }).toBeReleased())).toBe('dev0 is not released: it still holds something: was it closed?');
    expect(failure((t) => t.expectDevice({ ...device, released: of({ what: 'irq 5 disabled' }, { what: 'munmap', error: new Error('EINVAL') }) }).toBeReleased())).toBe(
      'dev0 is not released: its teardown had errors\n\n  irq 5 disabled\n  munmap: Error: EINVAL',
    );
    expect(failure((t) => { t.expectDevice({ ...device, released: EMPTY }); })).toMatch(/asserts nothing/);
  });
});

describe('recordLanes', () => {
  const event = (label: string, name = 'dev0'): PortEvent => ({ device: name, atNs: 0n, lane: 'query', label });

  it('keeps the latest of the devices asked for, and counts what made room', () => {
    const all = recordLanes();
    {
      using one = recordLanes('dev0', { capacity: 3 });
      for (const label of ['q0', 'q1', 'q2', 'q3', 'q4']) portChannel.publish(event(label));
      portChannel.publish(event('q9', 'dev1'));
      expect(one.events.map(({ label }) => label)).toEqual(['q2', 'q3', 'q4']);
      expect(one.dropped).toBe(2);
    }
    all.stop();
    expect(all.events).toHaveLength(6);
    expect(portChannel.hasSubscribers).toBe(false);
    expect(() => recordLanes([], { capacity: 0 })).toThrow(RangeError);
  });

  it('is off when a marble test has ended, also a failed one', () => {
    failure(() => { throw new Error('x'); });
    expect(portChannel.hasSubscribers).toBe(false);
  });
});

function failure(body: (t: MarbleTest) => void): string {
  try {
    marbles(body);
  } catch (error) {
    if (error instanceof Error) return error.message;
  }
  throw new Error('the test should have failed');
}
