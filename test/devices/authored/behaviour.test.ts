import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { delay, EMPTY, map, NEVER, of, switchMap, tap, throwError } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { DeviceBehaviour } from '../../../src/devices/authored/behaviour.js';
import { warningChannel, type Warning } from '../../../src/diagnostics.js';
import { marbles } from '../../../src/testing/index.js';
import { codeOf, now } from '../../support/devices.js';
import { virtualClock } from '../../support/virtual-clock.js';
import { openedSample } from './sample.js';

const read = { region: 2, offset: 0, readBytes: 1 };
const noAnswer: DeviceBehaviour = ({ accesses }) => accesses.pipe(switchMap(() => NEVER));

describe('a behaviour', () => {
  it('answers reads at once or later, and each once', () => {
    marbles((t) => {
      const port = openedSample(t.clock, ({ accesses }) => accesses.pipe(
        switchMap((access) => (access.offset === 0 ? of(access) : of(access).pipe(delay(2 / 1000, t.clock.scheduler)))),
        tap((access) => {
          if (access.kind !== 'read') return;
          access.answer(0x1ab);
          access.answer(0);
        }),
        switchMap(() => EMPTY),
      ));
      t.expect(port.access(read).pipe(map(([byte]) => byte))).toBe('(a|)', { a: 0xab });
      t.expect(port.access({ ...read, offset: 1 }).pipe(map(([byte]) => byte)), '---^').toBe('-----(a|)', { a: 0xab });
    });
  });

  it('that answers nothing for a second fails the read, and what comes then is not heard', () => {
    const clock = virtualClock();
    const answers: ((value: number) => void)[] = [];
    const port = openedSample(clock, ({ accesses }) => accesses.pipe(tap((access) => access.kind === 'read' && answers.push(access.answer)), switchMap(() => NEVER)));
    const errors: unknown[] = [];
    port.access(read).subscribe({ error: (error: unknown) => errors.push(error) });
    clock.advanceMs(999);
    expect(errors).toEqual([]);
    clock.advanceMs(1);
    expect(errors).toMatchObject([{ code: 'VFIO_E_DEADLINE' }]);
    answers[0]?.(1);
  });

  it('that does not listen gives ones, and takes what is written', () => {
    const port = openedSample(virtualClock());
    expect([...now(port.access({ region: 2, offset: 0, readBytes: 8 }))]).toEqual(new Array(8).fill(0xff));
    now(port.access({ region: 2, offset: 0, write: Uint8Array.of(1) }));
  });

  it('that fails is told, and fails each access until a reset', () => {
    const warnings: Warning[] = [];
    const listen = (warning: unknown): void => void warnings.push(warning as Warning);
    subscribe(warningChannel.name, listen);
    const clock = virtualClock();
    const cause = new Error('a bug');
    let broken = true;
    const port = openedSample(clock, ({ accesses }) => (broken ? throwError(() => cause) : accesses.pipe(tap((access) => access.kind === 'read' && access.answer(5)), switchMap(() => EMPTY))));
    expect(codeOf(() => now(port.access(read)))).toBe('VFIO_E_NO_DEVICE');
    expect(codeOf(() => now(port.access({ region: 2, offset: 0, write: Uint8Array.of(1) })))).toBe('VFIO_E_NO_DEVICE');
    expect(warnings).toMatchObject([{ device: '1234:5678', error: cause }]);
    broken = false;
    port.reset().subscribe();
    clock.flush();
    expect(now(port.access(read))[0]).toBe(5);
    unsubscribe(warningChannel.name, listen);
  });

  it('that interrupts as its description does not say has failed', () => {
    for (const irq of [{ intx: true }, { message: 4 }] as const) {
      const port = openedSample(virtualClock(), () => of(irq), { vendorId: 1, deviceId: 1, classCode: 0, bars: [{ index: 2, kind: 'io', size: 4 }], interrupts: { msi: 4 } });
      expect(codeOf(() => now(port.access(read)))).toBe('VFIO_E_NO_DEVICE');
    }
  });

  it('is left by a reset and by close, and what waits for an answer fails', () => {
    const clock = virtualClock();
    const port = openedSample(clock, noAnswer);
    const errors: unknown[] = [];
    const ask = (): void => void port.access(read).subscribe({ error: (error: unknown) => errors.push(error) });
    ask();
    port.reset().subscribe();
    clock.advanceMs(0);
    ask();
    port.close();
    expect(errors).toMatchObject([{ code: 'VFIO_E_CANCELED' }, { code: 'VFIO_E_CLOSED' }]);
  });
});
