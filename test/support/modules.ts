import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';

/** Loads a module of the kernel that is running, unless it is loaded; the lane says in VFIO_RX_TEST_MODULES which there are. */
export function loadModule(name: string): void {
  if (readFileSync('/proc/modules', 'utf8').split('\n').some((line) => line.startsWith(`${name} `))) return;
  const path = (process.env['VFIO_RX_TEST_MODULES'] ?? '').split(':').find((candidate) => basename(candidate, '.ko') === name);
  if (path === undefined) throw new Error(`the lane has no module ${name} for this run`);
  execFileSync('insmod', [path]);
}
