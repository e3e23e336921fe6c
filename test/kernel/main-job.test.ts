import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { nothingHeld, SampleMdev } from '../support/mdev.js';

/** Runs the main job against a device of the sample driver; its lines, its exit code and how long it took, ms. */
async function mainJob(mdev: SampleMdev, args: readonly string[]): Promise<{ readonly output: string; readonly code: unknown; readonly tookMs: number }> {
  const program = join(process.env['VFIO_RX_CHILDREN'] ?? '', 'test/kernel/main-job.child.mjs');
  const env = { ...process.env, VFIO_RX_MDEV_UUID: mdev.uuid, VFIO_RX_MDEV_SYSFS: `/sys/bus/mdev/devices/${mdev.uuid}` };
  const began = performance.now();
  const job = spawn(process.execPath, ['--enable-source-maps', program, '--kernel', ...args], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  const chunks: Buffer[] = [];
  job.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  const [code] = (await once(job, 'close')) as unknown[];
  return { output: Buffer.concat(chunks).toString(), code, tookMs: performance.now() - began };
}

describe('the main job on the real kernel', () => {
  it('ends by itself, and the driver says that every number arrived once and every ack in its place', { timeout: 120_000 }, async () => {
    using mdev = new SampleMdev();
    const { output, code, tookMs } = await mainJob(mdev, []);
    expect(output.trimEnd().split('\n').at(-1), output).toBe('verdict: good');
    expect(code).toBe(0);
    expect(mdev.held()).toEqual(nothingHeld);
    console.log(`the main job took ${Math.round(tookMs / 100) / 10} s in the guest`);
  });

  it.each(['bitmap-none', 'rfc-v4', 'saving-layout'])('ends well with --profile %s', { timeout: 120_000 }, async (profile) => {
    using mdev = new SampleMdev();
    const { output, code } = await mainJob(mdev, ['--seconds', '1', '--rounds', '2', '--profile', profile]);
    expect(output.trimEnd().split('\n').at(-1), output).toBe('verdict: good');
    expect(code).toBe(0);
  });

  it('says what is wrong when a number is lost, and exits with 1', { timeout: 120_000 }, async () => {
    using mdev = new SampleMdev();
    const { output, code } = await mainJob(mdev, ['--seconds', '1', '--rounds', '1', '--sabotage', 'lose']);
    expect(output).toMatch(/wrong +every number of the guest on the main loop arrived once/i);
    expect(code).toBe(1);
  });
});
