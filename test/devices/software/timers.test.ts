import { describe, expect, it } from 'vitest';
import { realClock } from '../../../src/clock.js';
import { Timers } from '../../../src/devices/software/timers.js';

describe('a call that is answered soon, in real time', () => {
  it('is answered in a later turn, in order; unsubscribing cancels it', async () => {
    const timers = new Timers(realClock);
    const heard: string[] = [];
    await new Promise<void>((done) => {
      timers.soon(() => heard.push('first'));
      timers.soon(() => heard.push('cancelled')).unsubscribe();
      timers.soon(() => {
        heard.push('second');
        done();
      });
      void Promise.resolve().then(() => heard.push('this turn'));
    });
    expect(heard).toEqual(['this turn', 'first', 'second']);
  });
});
