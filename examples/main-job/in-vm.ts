import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** The machine is ended after so many seconds; its boot is most of them. */
const deadlineS = 180;

/** Runs this same job in the virtual machine of the kernel lane, which bundles it first. Settles with its exit code. */
export function runInVm(args: readonly string[]): Promise<number> {
  const lane = ['test/lanes/kernel/run.mjs', '--deadline', String(deadlineS), '--program', 'examples/main-job/main.ts', '--', ...args];
  const child = spawn(process.execPath, lane, { cwd: root, stdio: 'inherit' });
  // A terminal sends Ctrl-C to the whole group; the lane ends the machine, and we wait for the lane.
  process.on('SIGINT', () => undefined);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(code ?? (signal === 'SIGINT' ? 130 : 1)));
  });
}
