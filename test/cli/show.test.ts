import { of, Subject, tap, throwError, concat } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { jsonLine, say, shown } from '../../src/cli/show.js';
import type { MigrationEvent } from '../../src/migration/plan.js';
import { terminal } from './terminal.js';

const devices = [{ device: 'vf0', state: 'stop-copy', bytes: 1024n, remaining: 0n }] as const;
const transfer: MigrationEvent = { phase: 'transfer', atNs: 1n, devices, rate: 0 };
const moved: MigrationEvent = { phase: 'moved', atNs: 2n, devices, downtimeNs: 1_000_000n };

describe('what a command shows', () => {
  it('is a line for each phase where there is no terminal', () => {
    const written: string[] = [];
    of(transfer, transfer, moved).pipe(shown({ write: (text) => written.push(text), json: false })).subscribe();
    expect(written).toEqual(['transfer\n', 'moved: nothing ran for 1.0 ms\n']);
  });

  it('is each event as JSON on request, on a terminal too', () => {
    const written: string[] = [];
    const { stream, written: drawn } = terminal();
    const screen = { write: (text: string) => written.push(text), json: true, terminal: stream };
    of(transfer, transfer).pipe(shown(screen)).subscribe();
    expect(written).toEqual(Array(2).fill('{"phase":"transfer","atNs":1,"devices":[{"device":"vf0","state":"stop-copy","bytes":1024,"remaining":0}],"rate":0}\n'));
    expect(drawn()).toBe('');
  });

  it('is a live table on a terminal, left whole before anything else is written', () => {
    const { stream, lines } = terminal();
    const screen = { write: (text: string) => void stream.write(text), json: false, terminal: stream };
    of(transfer, moved).pipe(shown(screen), tap(({ phase }) => {
      if (phase === 'moved') say(screen, {}, 'the end');
    })).subscribe();
    expect(lines()).toEqual(['moved: nothing ran for 1.0 ms', '  vf0              stop-copy    [========================] 1.0 KiB', 'the end', '']);
  });

  it('leaves the table whole where it fails or nobody looks any more', () => {
    for (const end of ['fails', 'unsubscribed']) {
      const { stream, lines } = terminal();
      const screen = { write: (text: string) => void stream.write(text), json: false, terminal: stream };
      const events$ = end === 'fails' ? concat(of(transfer), throwError(() => new Error('cut'))) : concat(of(transfer), new Subject<MigrationEvent>());
      events$.pipe(shown(screen)).subscribe({ error: () => say(screen, {}, 'why') }).unsubscribe();
      expect(lines().slice(0, 3)).toEqual(['transfer', '  vf0              stop-copy    [========================] 1.0 KiB', end === 'fails' ? 'why' : '']);
    }
  });

  it('writes 64-bit numbers as numbers where they fit, and errors with their code', () => {
    expect(jsonLine({ small: 1n, large: 1n << 60n, error: Object.assign(new Error('no'), { code: 'X' }) })).toBe('{"small":1,"large":"1152921504606846976","error":{"name":"Error","message":"no","code":"X"}}\n');
  });
});
