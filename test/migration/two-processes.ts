import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';
import { expect } from 'vitest';
import type { Spot } from './acting.js';
import { digestOf, sourceState, type SideOrder } from './side-order.js';

const root = resolve(import.meta.dirname, '..', '..');

export type SideName = 'source' | 'destination';

/** One side does something at one spot; `nothing` for a run without fault. */
export interface Incident {
  readonly side: SideName;
  readonly act?: Spot & { readonly what: 'die' | 'cut' };
}

export interface Report {
  readonly state: string;
  readonly digest: string;
  readonly said: readonly number[];
}

/** The program of one side, with the machines of the handover or with others in their place. */
export async function sideProgram(name: string, machines?: string): Promise<string> {
  // In the tree itself, where the one package that is no JavaScript is found.
  const program = join(root, '.samples', name);
  mkdirSync(join(root, '.samples'), { recursive: true });
  const replace = { name: 'machines', setup: (bundle: { onResolve: (options: { filter: RegExp }, resolved: () => { path: string }) => void }) => { if (machines !== undefined) bundle.onResolve({ filter: /handover-(source|destination)\.js$/ }, () => ({ path: machines })); } };
  const banner = { js: 'import { createRequire as requireFrom } from "node:module"; const require = requireFrom(import.meta.url);' };
  await build({ entryPoints: [join(import.meta.dirname, 'side.child.ts')], outfile: program, bundle: true, platform: 'node', format: 'esm', external: ['koffi'], banner, plugins: [replace] });
  return program;
}

class Side {
  readonly #child: ChildProcess;
  readonly #lines: Record<string, unknown>[] = [];
  readonly #watchers = new Set<() => void>();
  #rest = '';
  #dead = false;

  constructor(program: string, order: SideOrder) {
    const child = spawn(process.execPath, [program, JSON.stringify(order)], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      const lines = (this.#rest + text).split('\n');
      this.#rest = lines.pop() ?? '';
      this.#lines.push(...lines.map((line) => JSON.parse(line) as Record<string, unknown>));
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

  async report(): Promise<Report | undefined> {
    this.tell('report');
    return (await this.says('report')) as Report | undefined;
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

/** Migrations between two processes, with their journals in a folder. */
export class TwoProcesses {
  readonly #folder = mkdtempSync(join(tmpdir(), 'vfio-rx-two-'));
  readonly #program: string;
  #runs = 0;

  constructor(program: string) {
    this.#program = program;
  }

  clear(): void {
    rmSync(this.#folder, { recursive: true });
  }

  /** Plays one migration. How it ended; throws where a promise was broken. */
  async play({ side, act }: Incident): Promise<{ readonly outcome: string; readonly said: Readonly<Record<SideName, readonly number[]>> }> {
    const n = (this.#runs += 1);
    const journals = { source: join(this.#folder, `${n}-source`), destination: join(this.#folder, `${n}-destination`) };
    const started: Side[] = [];
    const start = (own: SideName, address: string, resolving: boolean): Side => {
      const one = new Side(this.#program, { side: own, address, journal: journals[own], resolving, ...(!resolving && own === side && act !== undefined ? { act } : {}) });
      started.push(one);
      return one;
    };
    try {
      const destination = start('destination', 'tcp://127.0.0.1:0', false);
      const source = start('source', String(await destination.says('listening')), false);
      const ends = await Promise.all([source.says('end'), destination.says('end')]);
      const [atSource, atDestination] = await Promise.all([source.report(), destination.report()]);
      const said = { source: atSource?.said ?? [], destination: atDestination?.said ?? [] };
      const about = JSON.stringify([side, act, ends]);
      const died = source.dead || destination.dead;
      const owners = await ownersOf(source, destination);
      expect(owners.length, `two sides run: ${about}`).toBeLessThan(2);
      if (!died && !ends.includes('in-doubt')) {
        expect(owners, about).toHaveLength(1);
        return { outcome: owners[0] === 'source' ? 'rolled back' : 'moved', said };
      }
      if (!existsSync(journals.source) || !existsSync(journals.destination)) {
        // Nobody was told of anything: who lives, and had devices that ran, has them.
        if (!source.dead) expect(owners, about).toEqual(['source']);
        return { outcome: 'died before anything was written', said };
      }
      const listening = ends[1] === 'in-doubt' && !destination.dead ? destination : start('destination', 'tcp://127.0.0.1:0', true);
      if (listening === destination) destination.tell('resolve tcp://127.0.0.1:0');
      const address = String(await listening.says('listening'));
      const asking = ends[0] === 'in-doubt' && !source.dead ? source : start('source', address, true);
      if (asking === source) source.tell(`resolve ${address}`);
      const answers = await Promise.all([asking.says('resolution'), listening.says('resolution')]);
      const which = `${about} ${JSON.stringify(answers)}`;
      expect(answers[0], which).toBe(answers[1]);
      expect(['moved', 'not-moved'], which).toContain(answers[0]);
      const owner = answers[0] === 'moved' ? 'destination' : 'source';
      expect(await ownersOf(source, destination), which).toEqual((owner === 'source' ? source : destination).dead ? [] : [owner]);
      return { outcome: `${died ? 'died' : 'in doubt'}, ${String(answers[0])}`, said };
    } finally {
      for (const one of started) one.end();
    }
  }
}

/** Who runs what the source had: by state and contents, not by what anybody says. */
async function ownersOf(source: Side, destination: Side): Promise<readonly SideName[]> {
  const [from, to] = await Promise.all([source.report(), destination.report()]);
  const whole = digestOf(sourceState);
  return [...(from?.state === 'running' ? ['source' as const] : []), ...(to?.state === 'running' && to.digest === whole ? ['destination' as const] : [])];
}
