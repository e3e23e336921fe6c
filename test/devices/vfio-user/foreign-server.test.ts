import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, watch } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { firstValueFrom } from 'rxjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { realClock } from '../../../src/clock.js';
import type { DevicePort } from '../../../src/devices/port.js';
import { openUserPort } from '../../../src/devices/vfio-user/open-user-port.js';
import { foreignRun } from '../../support/vfio-user/foreign-run.js';
import { readRecording } from '../../support/vfio-user/recording.js';

/** samples/server of libvfio-user, as the recording's first line has it. */
const program = process.env['VFIO_USER_PEER'];

/** Against the living server of which foreign-recording.test.ts has a recording. */
describe.skipIf(program === undefined)('a server of libvfio-user', () => {
  let folder: string;
  let server: ChildProcess;
  let port: DevicePort;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'vfio-rx-foreign-'));
    const path = join(folder, 'server.sock');
    const listening = new Promise<void>((resolve) => {
      const watcher = watch(folder, () => {
        if (!existsSync(path)) return;
        watcher.close();
        resolve();
      });
    });
    server = spawn(program ?? '', ['-v', path], { stdio: 'ignore' });
    await listening;
    port = await firstValueFrom(openUserPort(path, realClock));
  });
  afterAll(async () => {
    await port[Symbol.asyncDispose]();
    server.kill();
    rmSync(folder, { recursive: true });
  });

  it('is to the client what the recording says', async () => {
    const [head] = readRecording(join(import.meta.dirname, 'libvfio-user.jsonl'));
    // It signals first, and then takes no command until its DMA messages are answered, which nothing tells: the one sleep here.
    const facts = await foreignRun(port, BigInt(Math.floor(Date.now() / 1000) + 1), () => setTimeout(500));
    expect(head).toMatchObject({ facts: JSON.parse(JSON.stringify(facts)) as unknown });
  });
});
