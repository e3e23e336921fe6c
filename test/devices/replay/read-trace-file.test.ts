import { chmodSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { memoryTrace } from '../../../src/devices/replay/memory-trace.js';
import { readTraceFile } from '../../../src/devices/replay/read-trace-file.js';
import { recordPort } from '../../../src/devices/replay/record-port.js';
import { softwareDevice } from '../../../src/devices/software/software-device.js';
import { asNobody } from '../../support/as-nobody.js';
import { now } from '../../support/devices.js';
import { virtualClock } from '../../support/virtual-clock.js';

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-trace-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function trace(): string {
  const sink = memoryTrace();
  const clock = virtualClock();
  const port = recordPort(now(softwareDevice().open(clock)), sink);
  for (let times = 0; times < 10; times += 1) now(port.info());
  port.close();
  clock.flush();
  return sink.text;
}

describe('readTraceFile', () => {
  it('reads a trace, and of it no more than the limits say', () => {
    const path = join(folder, 'run.jsonl');
    writeFileSync(path, trace());
    expect(readTraceFile(path)).toMatchObject({ header: { device: 'software0' } });
    expect(readTraceFile(path).incomplete).toBeUndefined();
    const { entries, incomplete } = readTraceFile(path, { maxBytes: 500 });
    expect(entries.length).toBeGreaterThan(0);
    expect(incomplete).toMatchObject({ code: 'VFIO_E_LIMIT', device: path });
  });

  it('takes no more memory for a file of 4 GiB than its limits say', () => {
    const path = join(folder, 'enormous.jsonl');
    writeFileSync(path, trace());
    truncateSync(path, 4 * 2 ** 30);
    const before = process.memoryUsage();
    const { entries, incomplete } = readTraceFile(path, { maxBytes: 8 * 2 ** 20 });
    const after = process.memoryUsage();
    expect([entries.length > 10, incomplete]).toEqual([true, expect.objectContaining({ code: 'VFIO_E_LIMIT', device: path })]);
    expect(after.arrayBuffers + after.heapTotal - before.arrayBuffers - before.heapTotal).toBeLessThan(64 * 2 ** 20);
  });

  for (const [path, code] of [['/dev/zero', 'VFIO_E_TRACE'], [folder, 'VFIO_E_TRACE'], [join(import.meta.filename, 'run.jsonl'), 'VFIO_E_ADDRESS'], [join(folder, 'none'), 'VFIO_E_ADDRESS'], ['/proc/self/mem', 'VFIO_E_TRACE']] as const) {
    it(`refuses ${path.replace(folder, 'the folder')}`, () => {
      expect(() => readTraceFile(path)).toThrow(expect.objectContaining({ code, device: path }) as Error);
    });
  }

  it('says that it is a folder, or that this user may not read it, and nothing of devices', () => {
    const path = join(folder, 'secret.jsonl');
    writeFileSync(path, trace());
    chmodSync(path, 0);
    expect(() => asNobody(() => readTraceFile(path))).toThrow(`${path}: read trace: this user may not read it (EACCES) [VFIO_E_PERMISSION]`);
    expect(() => readTraceFile(folder)).toThrow(`${folder}: read trace: a folder: name a file in it [VFIO_E_TRACE]`);
  });
});
