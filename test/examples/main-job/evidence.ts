import { readTraceLine, type TraceLine } from '../../../examples/main-job/witness.js';
import type { Evidence } from '../../../examples/main-job/verdict.js';

/** The trace of one way into the saving group and back, as the sample driver writes it. */
export const goodTrace = `
0 100 open
1 110 register role=trigger
2 111 register role=ack
3 120 query region=0 mmap=1
4 121 query region=1 mmap=1
5 130 mmap region=0 offset=0x0 size=0x10000
6 131 mmap region=1 offset=0x0 size=0x8000
7 132 mmap region=1 offset=0x10000 size=0x8000
8 200 layout region=0 mmap=0 areas=0
9 201 layout region=1 mmap=1 areas=1
10 202 signal add=1
11 203 wait target=1
12 210 query region=0 mmap=0
13 211 query region=1 mmap=1
14 220 munmap region=0 offset=0x0 size=0x10000
15 221 munmap region=1 offset=0x10000 size=0x8000
16 230 ack value=1
17 231 release ret=0
18 232 state from=RUNNING to=PRE_COPY ret=0
19 300 layout region=0 mmap=1 areas=1
20 301 layout region=1 mmap=1 areas=2
21 302 signal add=1
22 303 state from=PRE_COPY to=RUNNING ret=0
23 310 query region=0 mmap=1
24 320 mmap region=0 offset=0x0 size=0x10000
25 330 ack value=1
`;

/** The lines of a trace; `change` edits its text first, and a change that does not fit is a mistake of the test. */
export function traceOf(text: string, change?: readonly [from: string | RegExp, to: string]): readonly TraceLine[] {
  const changed = change === undefined ? text : text.replace(...change);
  if (change !== undefined && changed === text) throw new Error(`the trace has no ${String(change[0])}`);
  return changed.trim().split('\n').map(readTraceLine);
}

/** A run in which all is well. */
export function goodEvidence(): Evidence {
  const guest = { received: 50, duplicates: 0, missing: 0, byMap: 30, byTrap: 20 };
  return {
    answer: 'value',
    guests: [
      { id: 0, name: 'guest on the main loop', sent: 50 },
      { id: 1, name: 'guest in the worker', sent: 50 },
    ],
    deliveries: { guests: [guest, guest], stale: 0 },
    trace: traceOf(goodTrace),
    traceMissed: 0,
    sums: { sent: 2n, acked: 2n },
    violations: 0,
    held: { opens: 0, vmas: 0, irqs: 0, waiters: 0 },
    failures: [],
  };
}
