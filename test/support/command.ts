import { spawn, type ChildProcess } from 'node:child_process';
import { join, resolve } from 'node:path';

/** A line that the command says with `--json`. */
export type Line = Readonly<Record<string, unknown>>;

const root = resolve(import.meta.dirname, '..', '..');
const children = process.env['VFIO_RX_CHILDREN'];
/** In the guest it is bundled (test/kernel/vfio-rx.child.ts). */
const program = children === undefined ? ['--import', 'tsx', 'src/cli/main.ts'] : [join(children, 'test/kernel/vfio-rx.child.mjs')];

/** The command `vfio-rx` in a process of its own: what it says, line by line, and how it ends. */
export class Command {
  readonly lines: Line[] = [];
  readonly ended: Promise<number | null>;
  readonly #child: ChildProcess;
  readonly #watchers = new Set<() => void>();
  #rest = '';

  constructor(...args: readonly string[]) {
    const child = spawn(process.execPath, [...program, ...args, '--json'], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
    this.#child = child;
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      const lines = (this.#rest + text).split('\n');
      this.#rest = lines.pop() ?? '';
      this.lines.push(...lines.map((line) => JSON.parse(line) as Line));
      for (const watch of this.#watchers) watch();
    });
    this.ended = new Promise((end) => child.once('close', end));
  }

  /** The first line that has it. */
  says(what: (line: Line) => boolean): Promise<Line> {
    return new Promise((found) => {
      const look = (): void => {
        const line = this.lines.find(what);
        if (line !== undefined) found(line);
      };
      this.#watchers.add(look);
      look();
    });
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }
}
