import { dirname, relative, resolve } from 'node:path';
import { readTraceFile } from '../devices/replay/read-trace-file.js';
import { followTrace } from '../testing/follow-trace.js';
import { planOf } from '../testing/run-plan.js';
import { servedRun, type RunPlan } from '../testing/served-run.js';
import { say, type Screen } from './show.js';
import { writeText } from './write-text.js';

/** Replays a trace that `record` has written, and writes a test that does so, too. Throws VFIO_E_TRACE for one that is not whole, and what `followTrace` throws. */
export function keepAsTest(tracePath: string, testPath: string, screen: Screen): void {
  const trace = readTraceFile(tracePath);
  if (trace.incomplete !== undefined) throw trace.incomplete;
  const plan = planOf(trace);
  const { values } = followTrace(trace, (device) => servedRun(device, plan));
  writeText(testPath, testText(relative(dirname(resolve(testPath)), resolve(tracePath)), trace.header.device, plan, values));
  say(screen, { test: testPath }, `${testPath}: a test that replays it. Run it: npx vitest run ${testPath}`);
}

/** The text of the test; `tracePath` is seen from it. */
export function testText(tracePath: string, device: string, plan: RunPlan, lines: readonly string[]): string {
  return `import { join } from 'node:path';
import { expect, it } from 'vitest';
import { followTrace, readTraceFile, servedRun } from 'vfio-rx/testing';

/** Recorded by vfio-rx record. Put code of yours in the place of servedRun: the first call that the recording does not have is named. */
it(${quoted(`does what ${device} was recorded to do`)}, () => {
  const trace = readTraceFile(join(import.meta.dirname, ${quoted(tracePath)}));
  const { values } = followTrace(trace, (device) => servedRun(device, ${planText(plan)}));
  expect(values).toEqual([
${lines.map((line) => `    ${quoted(line)},\n`).join('')}  ]);
});
`;
}

function planText({ states, forMs }: RunPlan): string {
  return `{ ${[...(states === undefined ? [] : [`states: [${states.map(quoted).join(', ')}]`]), ...(forMs === undefined ? [] : [`forMs: ${forMs}`])].join(', ')} }`;
}

/** A string of the language, whatever is in it. */
function quoted(text: string): string {
  return /^[ -~]*$/.test(text) && !/['\\]/.test(text) ? `'${text}'` : JSON.stringify(text).replaceAll('\u2028', '\\u2028').replaceAll('\u2029', '\\u2029');
}
