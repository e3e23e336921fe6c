import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { firstValueFrom } from 'rxjs';
import { afterAll, describe, expect, it } from 'vitest';
import { realClock } from '../../../src/clock.js';
import { openUserPort } from '../../../src/devices/vfio-user/open-user-port.js';
import { foreignRun } from '../../support/vfio-user/foreign-run.js';
import { openFds } from '../../support/vfio-user/raw-peer.js';
import { packed, readRecording, unpacked, type RecordedLine } from '../../support/vfio-user/recording.js';
import { ReplayServer } from '../../support/vfio-user/replay-server.js';

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-replay-'));
afterAll(() => rmSync(folder, { recursive: true }));
let servers = 0;

/** What the client makes of a recording. */
async function replayed(lines: readonly RecordedLine[], time: bigint): Promise<{ readonly facts: unknown; readonly server: ReplayServer }> {
  servers += 1;
  const path = join(folder, `${servers}.sock`);
  const server = new ReplayServer(path, lines);
  const opening = firstValueFrom(openUserPort(path, realClock));
  server.accept();
  const port = await opening;
  try {
    return { facts: JSON.parse(JSON.stringify(await foreignRun(port, time))) as unknown, server };
  } finally {
    await port[Symbol.asyncDispose]();
    server.close();
  }
}

const [head, ...run] = readRecording(join(import.meta.dirname, 'libvfio-user.jsonl'));
if (head === undefined || !('origin' in head)) throw new Error('the recording has no head');
const time = BigInt(head.time);

describe('the client against a recorded run of libvfio-user\'s server', () => {
  it('asks what it asked then, and makes the same of the answers', async () => {
    expect(head.origin).toContain('libvfio-user');
    const fds = openFds();
    const { facts, server } = await replayed(run, time);
    expect([server.departed, facts, server.left]).toEqual([undefined, head.facts, 0]);
    expect(openFds()).toBe(fds);
  });

  it('sees another run when a byte of the server is another, and none when it asks for something else', async () => {
    const altered = run.map((line) => ('file' in line && line.offset === 0x2004 ? { ...line, bytes: 'ff' } : line));
    expect((await replayed(altered, time)).facts).toMatchObject({ 'seen in the mapping': '00000000ff0000000000000000000000' });
    await expect(replayed(run, time + 1n)).rejects.toMatchObject({ code: 'VFIO_E_NO_DEVICE' });
  });
});

describe('bytes in a recording', () => {
  it('come back as they were', () => {
    for (const bytes of [[], [1, 2, 3], new Array<number>(4096).fill(0x41), [9, ...new Array<number>(8).fill(0), 7]]) expect([...unpacked(packed(Uint8Array.from(bytes)))]).toEqual(bytes);
    expect(packed(Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0, 0, 2))).toBe('01 00*8 02');
  });
});
