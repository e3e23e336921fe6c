import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** The other process of a migration, on a CPU of its own: what it says, a value of JSON in each line. */
export class OtherSide {
  readonly #lines: AsyncIterator<string>;

  constructor(peer: string, cpu: string, program: string, ...args: readonly string[]) {
    const file = fileURLToPath(new URL(program, import.meta.url));
    const child = spawn(peer, ['pin', cpu, process.execPath, file, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  async says<T>(): Promise<T> {
    const line = await this.#lines.next();
    if (line.done === true) throw new Error('the other side has ended');
    return JSON.parse(line.value) as T;
  }
}

export function say(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** A folder for sockets and journals, removed at the end. */
export function ownFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-bench-'));
  process.on('exit', () => {
    rmSync(folder, { recursive: true });
  });
  return folder;
}

/** `VmRSS` or `VmHWM`, the peak, in MiB. */
export function residentMib(which: 'VmRSS' | 'VmHWM'): number {
  const [, kib] = new RegExp(`^${which}:\\s+(\\d+) kB$`, 'm').exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  return Number(kib) / 1024;
}
