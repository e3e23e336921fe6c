import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { whoHolds } from '../../../src/devices/kernel/who-holds.js';

const group = { path: '/dev/vfio/7', way: 'by its group' };
const cdev = { path: '/dev/vfio/devices/vfio3', way: 'by its own file' };

let proc: string;

beforeEach(() => {
  proc = mkdtempSync(join(tmpdir(), 'vfio-rx-'));
});

afterEach(() => {
  rmSync(proc, { recursive: true });
});

function running(pid: number, comm: string | undefined, files: readonly string[]): void {
  mkdirSync(join(proc, `${pid}/fd`), { recursive: true });
  if (comm !== undefined) writeFileSync(join(proc, `${pid}/comm`), `${comm}\n`);
  files.forEach((file, fd) => symlinkSync(file, join(proc, `${pid}/fd/${fd}`)));
}

it('says which way, and which processes', () => {
  running(12, 'qemu', ['/dev/null', '/dev/vfio/7']);
  running(13, undefined, ['/dev/vfio/7', '/dev/vfio/7']);
  running(14, 'other', ['/dev/vfio/77', 'socket:[7]']);
  mkdirSync(join(proc, 'self'));
  expect(whoHolds([cdev, group], undefined, proc)).toBe('it is open by its group (/dev/vfio/7), by process 12 (qemu) and process 13');
  running(15, 'node', ['/dev/vfio/devices/vfio3']);
  expect(whoHolds([cdev, group], undefined, proc)).toMatch(/^it is open by its own file .* by process 15 \(node\); it is open by its group/);
});

it('lets no process steer a terminal by its name', () => {
  running(12, '\u001b[2Jq\nu', ['/dev/vfio/7']);
  expect(whoHolds([group], undefined, proc)).toBe('it is open by its group (/dev/vfio/7), by process 12 (?[2Jq?u)');
});

it('knows nothing of what it may not look at', () => {
  mkdirSync(join(proc, '16'));
  expect(whoHolds([cdev, group], undefined, proc)).toBeUndefined();
  expect(whoHolds([cdev], undefined, join(proc, 'nothing'))).toBeUndefined();
});

it('knows this process, less the fd that asks', () => {
  const path = join(proc, 'file');
  writeFileSync(path, '');
  const fds = [openSync(path, 'r'), openSync(path, 'r')];
  expect(whoHolds([{ path, way: 'itself' }], fds[0])).toBe(`it is open itself (${path}), by this process`);
  for (const fd of fds.splice(1)) closeSync(fd);
  expect(whoHolds([{ path, way: 'itself' }], fds[0])).toBeUndefined();
  for (const fd of fds) closeSync(fd);
});
