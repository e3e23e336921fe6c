import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { buildSync } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const root = resolve(import.meta.dirname, '..', '..');
const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-killed-'));
/** In the tree itself, where packages are found. */
const program = join(root, '.samples', 'side.child.mjs');

beforeAll(() => {
  mkdirSync(join(root, '.samples'), { recursive: true });
  buildSync({ entryPoints: [join(import.meta.dirname, 'side.child.ts')], outfile: program, bundle: true, platform: 'node', format: 'esm', packages: 'external' });
});

afterAll(() => rmSync(folder, { recursive: true }));

type Line = Record<string, unknown>;

class Side {
  readonly #child: ChildProcess;
  readonly #lines: Line[] = [];
  readonly #watchers = new Set<() => void>();
  #rest = '';
  #dead = false;

  constructor(...args: readonly string[]) {
    const child = spawn(process.execPath, [program, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      const lines = (this.#rest + text).split('\n');
      this.#rest = lines.pop() ?? '';
      this.#lines.push(...lines.map((line) => JSON.parse(line) as Line));
      this.#look();
    });
    child.once('close', () => {
      this.#dead = true;
      this.#look();
    });
    // A word to a process that is dead is lost.
    child.stdin.on('error', () => undefined);
  }

  get dead(): boolean {
    return this.#dead;
  }

  /** The next line that has this key; undefined where the process died without it. */
  async says(key: string): Promise<unknown> {
    for (;;) {
      const place = this.#lines.findIndex((line) => key in line);
      if (place >= 0) return this.#lines.splice(place, 1)[0]?.[key];
      if (this.#dead) return undefined;
      await new Promise<void>((look) => this.#watchers.add(look));
    }
  }

  async report(): Promise<Line> {
    this.tell('report');
    const state = this.says('state');
    return { state: await state };
  }

  tell(word: string): void {
    this.#child.stdin?.write(`${word}\n`);
  }

  end(): void {
    this.#child.kill('SIGKILL');
  }

  #look(): void {
    for (const look of this.#watchers) look();
    this.#watchers.clear();
  }
}

let runs = 0;

/** Plays one migration in which a side does something at its nth message. How it ended; throws where a promise was broken. */
async function played(side: 'source' | 'destination', message: number, when: string, what: string): Promise<string> {
  const journals = { source: join(folder, `${(runs += 1)}-source`), destination: join(folder, `${runs}-destination`) };
  const happening = [String(message), when, what];
  const destination = new Side('destination', 'tcp://127.0.0.1:0', journals.destination, ...(side === 'destination' ? happening : []));
  const source = new Side('source', String(await destination.says('listening')), journals.source, ...(side === 'source' ? happening : []));
  try {
    const ends = await Promise.all([source.says('end'), destination.says('end')]);
    const [sourceEnd, destinationEnd] = ends;
    const owners = async (): Promise<readonly string[]> => [
      ...(!source.dead && (await source.report()).state === 'running' ? ['source'] : []),
      // One that was reset runs, and holds nothing: only who has been told that it moved, or was resolved so, counts.
      ...(!destination.dead && (await destination.report()).state === 'running' && (destinationEnd === 'moved' || destinationEnd === 'in-doubt') ? ['destination'] : []),
    ];
    expect((await owners()).length).toBeLessThan(2);
    if (!source.dead && !destination.dead && !ends.includes('in-doubt')) {
      expect(await owners()).toHaveLength(1);
      return (await owners())[0] === 'source' ? 'rolled back' : 'moved';
    }
    if (!existsSync(journals.source) || !existsSync(journals.destination)) return 'died before anything was written';
    const listening = destinationEnd === 'in-doubt' ? destination : new Side('resolve-destination', 'tcp://127.0.0.1:0', journals.destination);
    if (listening === destination) destination.tell('resolve tcp://127.0.0.1:0');
    const address = String(await listening.says('listening'));
    const asking = sourceEnd === 'in-doubt' ? source : new Side('resolve-source', address, journals.source);
    if (asking === source) source.tell(`resolve ${address}`);
    const said = await Promise.all([asking.says('resolution'), listening.says('resolution')]);
    const about = JSON.stringify([side, message, when, what, ends, said]);
    expect(said[0], about).toBe(said[1]);
    expect(['moved', 'not-moved'], about).toContain(said[0]);
    expect((await owners()).filter((owner) => owner === (said[0] === 'moved' ? 'source' : 'destination')), about).toEqual([]);
    return `${source.dead || destination.dead ? 'died' : 'in doubt'}, ${String(said[0])}`;
  } finally {
    source.end();
    destination.end();
  }
}

/**
 * The messages of a source and a destination with one device: hello, data, switch-over, data, data, end, commit; welcome, switch-over-ok, prepared,
 * confirmed. Those of the handover and the first ones, unless all are wanted: in virtual time each of them has its turn.
 */
const messages = process.env['VFIO_RX_MESSAGES'] === 'all' ? { source: [0, 1, 2, 3, 4, 5, 6], destination: [0, 1, 2, 3] } : { source: [0, 1, 6], destination: [0, 2, 3] };

describe('two processes over TCP, with their journals on disk', () => {
  it.each(['die', 'cut'])('%s at every message, before and after it: it ends as it was promised', async (what) => {
    const outcomes = new Map<string, number>();
    for (const side of ['source', 'destination'] as const) {
      for (const message of messages[side]) {
        for (const when of ['before', 'after']) {
          const outcome = await played(side, message, when, what);
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        }
      }
    }
    console.log(`two processes, ${what}: ${[...outcomes].map(([how, often]) => `${how} ${often}`).join('; ')}`);
    const expected = what === 'die' ? ['died, moved', 'died, not-moved'] : ['rolled back', 'in doubt, moved'];
    expect([...outcomes.keys()]).toEqual(expect.arrayContaining(expected));
  }, 300_000);
});
