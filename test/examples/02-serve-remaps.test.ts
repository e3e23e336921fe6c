import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lastValueFrom, takeUntil, timer } from 'rxjs';
import { expect, it } from 'vitest';
import { remapIrq, remapRegions, softwareDevice, withDevice } from '../../src/index.js';
import { traceFile } from '../../src/testing/index.js';
import { asShown, ExampleRun } from '../support/example-run.js';

it('examples/02-serve-remaps says what was taken away, given back and acked, as its page shows', async () => {
  expect(await asShown('02-serve-remaps')).toMatchObject({ code: 0, errors: '' });
});

it('examples/02-serve-remaps goes through a recorded run, and is over in order when that is', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-example-'));
  const path = join(folder, 'run.jsonl');
  const record = traceFile(path);
  await lastValueFrom(withDevice(softwareDevice({ name: 'nic' }), (device) => remapIrq(device).pipe(remapRegions(device), takeUntil(timer(20))), { record }));
  await lastValueFrom(record.closed);
  const { code, lines, errors } = await new ExampleRun('02-serve-remaps', '--device', `trace:${path}`).ended;
  expect([code, errors, lines.length, lines.at(-1)]).toEqual([0, '', 2, 'closing nic: it is running']);
  rmSync(folder, { recursive: true });
});
