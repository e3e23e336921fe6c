/**
 * The client of vfio-user against the server in C of user-peer.c, which is pinned to another CPU. Started pinned by run.ts; prints one line of JSON.
 *
 *   user-client.ts reads PEER USER_PEER PATH OUTSTANDING COUNT CPU
 *   user-client.ts irqs PEER USER_PEER PATH COUNT CPU
 *   user-client.ts state PEER USER_PEER PATH MIB CPU
 */
import { spawn } from 'node:child_process';
import { existsSync, watch } from 'node:fs';
import { dirname } from 'node:path';
import { firstValueFrom, type Observable } from 'rxjs';
import { realClock } from '../src/clock.js';
import type { DevicePort } from '../src/devices/port.js';
import { openUserPort } from '../src/devices/vfio-user/open-user-port.js';

const warmUp = 2000;
const mib = 1 << 20;
const [mode, peer = '', userPeer = '', path = '', ...rest] = process.argv.slice(2);

async function opened(cpu: string): Promise<DevicePort> {
  const listening = new Promise<void>((resolve) => {
    const watcher = watch(dirname(path), () => {
      if (!existsSync(path)) return;
      watcher.close();
      resolve();
    });
  });
  spawn(peer, ['pin', cpu, userPeer, 'serve', path], { stdio: 'ignore' }).unref();
  await listening;
  return connected();
}

/** Its file is there a moment before it listens. */
async function connected(): Promise<DevicePort> {
  for (;;) {
    try {
      return await firstValueFrom(openUserPort(path, realClock));
    } catch (error) {
      if ((error as { code?: string }).code !== 'VFIO_E_NO_DEVICE') throw error;
    }
  }
}

function fail(error: unknown): void {
  throw error;
}

interface Since {
  readonly atNs: bigint;
  readonly cpu: NodeJS.CpuUsage;
}
const begin = (): Since => ({ atNs: process.hrtime.bigint(), cpu: process.cpuUsage() });

/** So many in a second, and in a second of this process's CPU time. */
function rates(count: number, since: Since): readonly [number, number] {
  const seconds = Number(process.hrtime.bigint() - since.atNs) / 1e9;
  const { user, system } = process.cpuUsage(since.cpu);
  return [Math.round(count / seconds), Math.round((count * 1e6) / (user + system))];
}

function say(port: DevicePort, figures: object): void {
  console.log(JSON.stringify(figures));
  port.close();
}

function reads(port: DevicePort, outstanding: number, count: number): void {
  const request = { region: 0, offset: 16, readBytes: 4 };
  let [asked, answered, sum] = [0, 0, 0];
  let since = begin();
  const next = (): void => {
    asked += 1;
    port.access(request).subscribe({
      next: (bytes) => {
        sum += bytes[0] ?? 0;
      },
      error: fail,
      complete: () => {
        answered += 1;
        if (answered === warmUp) since = begin();
        if (asked < warmUp + count) next();
        if (answered < warmUp + count) return;
        const [perSecond, perCpuSecond] = rates(count, since);
        say(port, { perSecond, perCpuSecond, sum });
      },
    });
  };
  for (let n = 0; n < outstanding; n++) next();
}

async function irqs(port: DevicePort, count: number): Promise<void> {
  const handle = await firstValueFrom(port.irq({ index: 0 }));
  const times: number[] = [];
  const write = { region: 0, offset: 16, write: new Uint8Array(4) };
  const one = (left: number): void => {
    let start = 0n;
    const both = waitFor(2, () => {
      if (left > 0) {
        one(left - 1);
        return;
      }
      times.sort((a, b) => a - b);
      say(port, { p50Ns: times[Math.floor(count / 2)], p99Ns: times[Math.floor(count * 0.99)] });
    });
    handle.next().subscribe({
      next: () => {
        if (left < count) times.push(Number(process.hrtime.bigint() - start));
      },
      error: fail,
      complete: both,
    });
    start = process.hrtime.bigint();
    port.access(write).subscribe({ error: fail, complete: both });
  };
  one(count + warmUp - 1);
}

function waitFor(calls: number, then: () => void): () => void {
  let left = calls;
  return () => {
    left -= 1;
    if (left === 0) then();
  };
}

async function state(port: DevicePort, size: number): Promise<void> {
  const reply = await firstValueFrom(port.setState('stop-copy'));
  const { data } = reply;
  if (data === undefined) throw new Error('no session');
  const into = new Uint8Array(mib);
  let bytes = 0;
  const since = begin();
  const next = (): void => {
    const read: Observable<unknown> = data.read(mib, into);
    read.subscribe({
      next: (chunk) => {
        bytes += (chunk as { bytes: Uint8Array }).bytes.length;
      },
      error: fail,
      complete: () => {
        if (bytes < size * mib) {
          next();
          return;
        }
        const [mibPerSecond, mibPerCpuSecond] = rates(size, since);
        say(port, { mibPerSecond, mibPerCpuSecond });
      },
    });
  };
  next();
}

const port = await opened(rest.at(-1) ?? '0');
if (mode === 'reads') reads(port, Number(rest[0]), Number(rest[1]));
else if (mode === 'irqs') await irqs(port, Number(rest[0]));
else if (mode === 'state') await state(port, Number(rest[0]));
else throw new Error(`unknown mode ${String(mode)}`);
