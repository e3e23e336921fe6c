import { config } from 'rxjs';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';

/** After each test of a file: no subscriber has let an error fall that rxjs then throws at the process. */
export function nothingUnhandled(): void {
  const unhandled: unknown[] = [];
  const before = config.onUnhandledError;
  beforeAll(() => {
    config.onUnhandledError = (error) => unhandled.push(error);
  });
  afterEach(async () => {
    // RxJS tells in a timer of its own: this one comes after it.
    await new Promise((turn) => setTimeout(turn));
    expect(unhandled.splice(0)).toEqual([]);
  });
  // Files of one worker may share one rxjs.
  afterAll(() => {
    config.onUnhandledError = before;
  });
}
