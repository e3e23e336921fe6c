import { EMPTY, NEVER, of, Subject, throwError, timer, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { Holders, type Holder, type MappedPiece } from '../../src/devices/holders.js';
import { marbles } from '../../src/testing/index.js';
import { firstPage, secondPage, whole } from '../support/devices.js';
import { virtualClock } from '../support/virtual-clock.js';

const memory = new ArrayBuffer(whole.size);
const all: MappedPiece = { region: 0, area: whole, memory, byteOffset: 0, address: 0x7000n };

function holder(name: string, release: () => Observable<unknown> = () => EMPTY, regain: (pieces: readonly MappedPiece[]) => Observable<unknown> = () => EMPTY): Holder {
  return { name, release, regain };
}

describe('holders', () => {
  it('are all waited for, however early the first of them lets go', () => {
    marbles((t) => {
      const holders = new Holders(t.clock, 'dev0');
      holders.add(holder('early', () => t.cold('-|')), [whole]);
      holders.add(holder('late', () => t.cold('----|')), [whole]);
      holders.add(holder('at once'), [whole]);
      t.expect(holders.regain([all], 100)).toBe('|');
      t.at('--x', { x: () => holders.release([whole], 100).subscribe() });
      const released$ = new Subject<never>();
      t.at('---x', { x: () => holders.release([whole], 100).subscribe(released$) });
      t.expect(released$).toBe('-------|');
    });
  });

  it('that let go get it back although another one failed', () => {
    marbles((t) => {
      const holders = new Holders(t.clock, 'dev0');
      const given: string[] = [];
      holders.add(holder('stubborn', () => throwError(() => new Error('no'))), [whole]);
      holders.add(holder('obedient', () => t.cold('--|'), () => { given.push('obedient'); return EMPTY; }), [whole]);
      t.expect(holders.regain([all], 100)).toBe('|');
      // All of them are waited for, and the failure is told then.
      t.expect(holders.release([whole], 100), '-^').toBe('---#', undefined, { code: 'VFIO_E_HOLDER', operation: 'holder stubborn release' });
      t.expect(holders.regain([all], 100), '----^').toBe('----|');
      t.atEnd(() => expect(given).toEqual(['obedient', 'obedient']));
    });
  });

  it('that was asked and did not answer is asked again before anything is unmapped', () => {
    marbles((t) => {
      const holders = new Holders(t.clock, 'dev0');
      let asked = 0;
      holders.add(holder('deaf', () => { asked += 1; return asked === 1 ? NEVER : EMPTY; }), [whole]);
      t.expect(holders.regain([all], 100)).toBe('|');
      t.expect(holders.release([whole], 0.002), '-^').toBe('---#', undefined, { code: 'VFIO_E_HOLDER' });
      t.expect(holders.release([firstPage], 1), '----^').toBe('----|');
      t.atEnd(() => expect(asked).toBe(2));
    });
  });

  it('are asked only for what they have of it', () => {
    marbles((t) => {
      const asked: unknown[] = [];
      const holders = new Holders(t.clock, 'dev0');
      const note = (name: string): Holder => ({ name, release: (areas) => { asked.push([name, areas]); return EMPTY; }, regain: () => EMPTY });
      holders.add(note('first page'), [firstPage]);
      holders.add(note('second page'), [secondPage]);
      holders.add(note('nothing yet'), [{ offset: 0x8000, size: 0x1000 }]);
      holders.regain([all], 100).subscribe();
      t.expect(holders.release([firstPage], 100)).toBe('|');
      t.atEnd(() => expect(asked).toEqual([['first page', [firstPage]]]));
    });
  });

  it('who have let go are not asked again, and get back only what they lack', () => {
    const log: string[] = [];
    const holders = new Holders(virtualClock(), 'dev0');
    holders.add(holder('h', () => { log.push('release'); return EMPTY; }, (pieces) => {
      log.push(pieces.map(({ area, byteOffset, address }) => `${area.offset}+${area.size} at ${byteOffset}, 0x${(address ?? 0n).toString(16)}`).join());
      return EMPTY;
    }), [whole]);
    const run = (step: Observable<never>): void => { step.subscribe(); };
    run(holders.regain([all], 100));
    run(holders.release([secondPage], 100));
    run(holders.release([secondPage], 100));
    run(holders.regain([all], 100));
    run(holders.regain([all], 100));
    expect(log).toEqual(['0+8192 at 0, 0x7000', 'release', '4096+4096 at 4096, 0x8000']);
  });

  it('have a budget each, in virtual time: within it is in time, without an end is VFIO_E_HOLDER', () => {
    marbles((t) => {
      const scheduler = t.clock.scheduler;
      const inTime = new Holders(t.clock, 'dev0');
      inTime.add(holder('slow', () => timer(9, scheduler)), [whole]);
      inTime.regain([all], 100).subscribe();
      t.expect(inTime.release([whole], 10)).toBe('9ms |');
      const tooLate = new Holders(t.clock, 'dev0');
      tooLate.add(holder('prompt'), [whole]);
      tooLate.add(holder('stuck', () => NEVER), [whole]);
      tooLate.regain([all], 100).subscribe();
      t.expect(tooLate.release([whole], 10)).toBe('10ms #', undefined, expect.objectContaining({
        code: 'VFIO_E_HOLDER', device: 'dev0', operation: 'holder stuck release', message: expect.stringContaining('did not release within 10 ms') as string,
      }));
    });
  });

  it('may talk while they let go: only their end counts', () => {
    marbles((t) => {
      const holders = new Holders(t.clock, 'dev0');
      holders.add(holder('chatty', () => t.cold('-a-b-|')), [whole]);
      holders.regain([all], 100).subscribe();
      t.expect(holders.release([whole], 10)).toBe('-----|');
    });
  });

  it('that fail, or throw, are VFIO_E_HOLDER with the cause', () => {
    marbles((t) => {
      const cause = new Error('worker died');
      const broken = (release: () => Observable<unknown>, regain: () => Observable<unknown> = () => EMPTY): Holders => {
        const holders = new Holders(t.clock, 'dev0');
        holders.add(holder('broken', release, regain), [whole]);
        return holders;
      };
      const thrown = (): never => { throw cause; };
      const failing = broken(() => throwError(() => cause));
      const throwing = broken(thrown);
      for (const holders of [failing, throwing]) holders.regain([all], 100).subscribe();
      t.expect(failing.release([whole], 10)).toBe('#', undefined, { code: 'VFIO_E_HOLDER', cause });
      t.expect(throwing.release([whole], 10)).toBe('#', undefined, { code: 'VFIO_E_HOLDER', cause });
      t.expect(broken(() => EMPTY, thrown).regain([all], 10)).toBe('#', undefined, { code: 'VFIO_E_HOLDER', operation: 'holder broken regain', cause });
    });
  });

  it('keep what they did not let go of, and are asked for it again', () => {
    marbles((t) => {
      let asked = 0;
      const holders = new Holders(t.clock, 'dev0');
      holders.add(holder('second time', () => (asked++ === 0 ? NEVER : of(1))), [whole]);
      holders.regain([all], 100).subscribe();
      t.expect(holders.release([whole], 1)).toBe('1ms #', undefined, { code: 'VFIO_E_HOLDER' });
      t.expect(holders.release([whole], 1), '2ms ^').toBe('2ms |');
    });
  });

  it('who are gone are not asked', () => {
    marbles((t) => {
      const holders = new Holders(t.clock, 'dev0');
      const remove = holders.add(holder('gone', () => NEVER), [whole]);
      holders.regain([all], 100).subscribe();
      remove();
      t.expect(holders.release([whole], 1)).toBe('|');
    });
  });
});
