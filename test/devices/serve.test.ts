import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { serveDevice, softwareDevice } from '../../src/devices/index.js';

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-serve-'));
afterAll(() => rmSync(folder, { recursive: true }));

it('serveDevice ends by a signal, and leaves no socket behind', async () => {
  const path = join(folder, 'device.sock');
  const controller = new AbortController();
  const told: string[] = [];
  const ended = new Promise((end) => {
    serveDevice(softwareDevice(), path, controller).subscribe({
      next: ({ kind }) => {
        told.push(`${kind} ${existsSync(path)}`);
        controller.abort('enough');
      },
      error: end,
    });
  });
  expect(await ended).toMatchObject({ code: 'VFIO_E_ABORTED', operation: 'serve', device: `vfio-user:${path}`, cause: 'enough' });
  expect([told, existsSync(path)]).toEqual([['listening true'], false]);
});
