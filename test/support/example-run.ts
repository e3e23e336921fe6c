import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..', '..');
const children = process.env['VFIO_RX_CHILDREN'];

/** How an example has ended. */
export interface Ended {
  readonly code: number | null;
  readonly lines: readonly string[];
  readonly errors: string;
}

/** An example in a process of its own, as a person would start it; in the guest it is bundled (test/kernel/*.child.ts). */
export class ExampleRun {
  readonly ended: Promise<Ended>;
  readonly #child: ChildProcess;
  readonly #watchers = new Set<() => void>();
  #printed = '';

  constructor(example: string, ...args: readonly string[]) {
    const program = children === undefined ? ['--import', 'tsx', join('examples', example, 'main.ts')] : [join(children, `test/kernel/${example}.child.mjs`)];
    const child = spawn(process.execPath, [...program, ...args], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.#printed += text;
      for (const watch of this.#watchers) watch();
    });
    this.ended = new Promise((end, failed) => {
      child.once('error', failed);
      child.once('close', (code) => end({ code, lines: this.lines, errors }));
    });
  }

  get lines(): readonly string[] {
    return this.#printed.split('\n').slice(0, -1);
  }

  /** The first whole line that is so. Rejects where it has ended without. */
  async says(line: RegExp): Promise<string> {
    const said = new Promise<string>((found) => {
      const look = (): void => {
        const one = this.lines.find((printed) => line.test(printed));
        if (one !== undefined) found(one);
      };
      this.#watchers.add(look);
      look();
    });
    const without = this.ended.then(({ lines, errors }) => {
      throw new Error(`it has ended and not said ${line.source}:\n${lines.join('\n')}\n${errors}`);
    });
    return Promise.race([said, without]);
  }

  /** Ctrl-C. */
  interrupt(): void {
    this.#child.kill('SIGINT');
  }
}


/** What the page of an example shows below a command: a line `…` is any lines, a `…` in a line any text. */
export function shownBelow(example: string, command: string): RegExp {
  const page = readFileSync(join(root, 'examples', example, 'README.md'), 'utf8');
  const typed = [...page.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].flatMap(([, block = '']) => block.split(/^\$ /m)).find((one) => one.startsWith(`${command}\n`));
  if (typed === undefined) throw new Error(`the page does not show ${command}`);
  const quoted = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`).replaceAll('…', '.+');
  return new RegExp(`^${typed.split('\n').slice(1, -1).map((line) => (line === '…' ? '(.*\n)*' : `${quoted(line)}\n`)).join('')}$`);
}

/** Runs an example that ends by itself, and compares it with its page: how it ended, and its lines. */
export async function asShown(example: string, ...args: readonly string[]): Promise<Ended> {
  const ended = await new ExampleRun(example, ...args).ended;
  const printed = ended.lines.map((line) => `${line}\n`).join('');
  const shown = shownBelow(example, ['npx tsx', `examples/${example}/main.ts`, ...args].join(' '));
  if (!shown.test(printed)) throw new Error(`its page shows\n${shown.source}\nand it printed\n${printed}${ended.errors}`);
  return ended;
}
