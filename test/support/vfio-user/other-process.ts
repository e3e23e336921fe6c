import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PortScript, PortWitness } from '../../../src/testing/conformance/port/harness.js';
import type { SoftwareDeviceOptions } from '../../../src/devices/index.js';
import type { Area, State } from '../../../src/devices/port.js';

/** A process that starts on a busy machine, ms. */
const patienceMs = 55_000;
const program = join(import.meta.dirname, 'server-process.ts');

/** A device that the other process serves. */
export interface ServedDevice {
  readonly path: string;
  readonly witness: PortWitness;
  readonly script: PortScript;
  /** What the device reads there by DMA, and whether it could write `text` in its place. */
  dma(iova: bigint, text: string): { readonly seen: string | null; readonly wrote: boolean };
}

/** How often memory of a served device is mapped in this process. */
function mappingsHere(): number {
  return readFileSync('/proc/self/maps', 'utf8').split('\n').filter((line) => line.includes('/memfd:vfio-rx region')).length;
}

/** The process that serves. It is asked and answers while this one waits: what its driver saw is read at each use, as a property. */
export class OtherProcess {
  readonly #folder = mkdtempSync(join(tmpdir(), 'vfio-rx-user-'));
  readonly #child: ChildProcess;
  readonly #requests: number;
  readonly #replies: number;
  #devices = 0;
  #rest = '';

  constructor() {
    const [requests, replies] = [join(this.#folder, 'requests'), join(this.#folder, 'replies')];
    execFileSync('mkfifo', [requests, replies]);
    this.#requests = openSync(requests, constants.O_RDWR);
    this.#replies = openSync(replies, constants.O_RDWR | constants.O_NONBLOCK);
    this.#child = spawn(process.execPath, ['--import', 'tsx', program, requests, replies], { stdio: ['ignore', 'inherit', 'inherit'] });
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  serve(options: SoftwareDeviceOptions = {}): ServedDevice {
    this.#devices += 1;
    const id = this.#devices;
    const path = join(this.#folder, `device${id}.sock`);
    this.#ask({ op: 'serve', id, path, options });
    const see = (): Record<string, never> => this.#ask({ op: 'witness', id }) as Record<string, never>;
    const act = (name: string, args: readonly unknown[]): void => { this.#ask({ op: 'script', id, act: name, args }); };
    return {
      path,
      dma: (iova, text) => this.#ask({ op: 'dma', id, args: [iova.toString(), text] }) as { seen: string | null; wrote: boolean },
      witness: {
        get opens() { return see()['opens'] as unknown as number; },
        // Of this process: what the driver itself sees mapped is the server's.
        get vmas() { return mappingsHere(); },
        get irqs() { return see()['irqs'] as unknown as number; },
        get waiters() { return see()['waiters'] as unknown as number; },
        get sent() { return BigInt(see()['sent'] as unknown as string); },
        get acked() { return BigInt(see()['acked'] as unknown as string); },
        get violations() { return see()['violations'] as unknown as number; },
        get layout() { return new Map<number, readonly Area[]>(see()['layout']); },
        get state() { return see()['state'] as unknown as State; },
        get trace() { return see()['trace'] as unknown as PortWitness['trace']; },
      },
      script: {
        revoke: (region) => { act('revoke', [region]); },
        restore: (region) => { act('restore', [region]); },
        raiseMsi: () => { act('raiseMsi', []); },
        intx: (up) => { act('intx', [up]); },
        ignoreAcks: (on) => { act('ignoreAcks', [on]); },
        failQuery: (...args) => { act('failQuery', args); },
        lieAboutRegion: (region) => { act('lieAboutRegion', [region]); },
      },
    };
  }

  /** Makes the process a client of a device: `block` leaves it in a write of device_state that waits for an ack. */
  client(path: string, act: 'block'): void {
    this.#ask({ op: 'client', id: 0, path, act });
  }

  /** Ends it as a crash would. */
  kill(): void {
    this.#child.kill('SIGKILL');
  }

  dispose(): void {
    this.kill();
    closeSync(this.#requests);
    closeSync(this.#replies);
    rmSync(this.#folder, { recursive: true });
  }

  #ask(request: object): unknown {
    writeSync(this.#requests, `${JSON.stringify(request)}\n`);
    const answer: unknown = JSON.parse(this.#line());
    if (typeof answer === 'object' && answer !== null && 'error' in answer) throw new Error(`the other process: ${String(answer.error)}`);
    return answer;
  }

  /** Blocks this process, not the other one. */
  #line(): string {
    const nap = new Int32Array(new SharedArrayBuffer(4));
    const bytes = Buffer.alloc(65_536);
    for (const deadline = Date.now() + patienceMs; Date.now() < deadline; Atomics.wait(nap, 0, 0, 0.2)) {
      const end = this.#rest.indexOf('\n');
      if (end >= 0) {
        const line = this.#rest.slice(0, end);
        this.#rest = this.#rest.slice(end + 1);
        return line;
      }
      try {
        this.#rest += bytes.toString('utf8', 0, readSync(this.#replies, bytes));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      }
    }
    throw new Error('the other process does not answer');
  }
}
