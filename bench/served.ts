/**
 * The served side of the benchmark in Node: the library's reactor, one rxjs operator, answers and counts like the
 * C server of peer.c. Started pinned by run.ts; prints one line of JSON.
 *
 *   served.ts pulse PEER GAP_NS COUNT       partner on the same CPU
 *   served.ts flood PEER FDS COUNT CPU       partner on CPU
 *   served.ts bare PEER FDS COUNT CPU        the same without rxjs: handed to the reactor's own callback
 */
import { spawn } from 'node:child_process';
import { Observable, map } from 'rxjs';
import type { VfioError } from '../src/errors.js';
import { Eventfd } from '../src/devices/linux/eventfd.js';
import { sharedReactor, type ReactorSlot, type SignalCallback } from '../src/devices/linux/reactor.js';

/** Asks for the next signal after each one it delivered, as a stream of irqs does. */
function counts(slot: ReactorSlot): Observable<bigint> {
  return new Observable((subscriber) => {
    const deliver: SignalCallback = (count) => {
      subscriber.next(count);
      if (!subscriber.closed) slot.arm(deliver, failed);
    };
    const failed = (error: VfioError): void => {
      subscriber.error(error);
    };
    slot.arm(deliver, failed);
    return () => {
      slot.disarm();
    };
  });
}

/** The same without a stream: the callback asks for the next signal itself. */
function callbacks(slot: ReactorSlot, next: () => void): { unsubscribe(): void } {
  let over = false;
  const deliver: SignalCallback = () => {
    next();
    if (!over) slot.arm(deliver, fail);
  };
  slot.arm(deliver, fail);
  return {
    unsubscribe() {
      over = true;
      slot.disarm();
    },
  };
}

function fail(error: unknown): void {
  console.error(error);
  process.exit(1);
}

const addOne = map((count: bigint) => count + 1n);

function servePulse(peer: string, gapNs: string, count: string): void {
  const trigger = new Eventfd();
  const answer = new Eventfd();
  const slot = sharedReactor().add(trigger.fd);
  const served = counts(slot)
    .pipe(addOne)
    .subscribe({
      next: (value) => {
        answer.write(value);
      },
      error: fail,
    });
  const partner = spawn(peer, ['pulse', gapNs, count], { stdio: ['ignore', 'inherit', 'inherit', trigger.fd, answer.fd] });
  partner.on('exit', () => {
    served.unsubscribe();
    slot.close();
  });
}

function serveFlood(peer: string, fds: number, count: number, cpu: string, serve: (slot: ReactorSlot, next: () => void) => { unsubscribe(): void }): void {
  const reactor = sharedReactor();
  const triggers = Array.from({ length: fds }, () => new Eventfd());
  let left = Math.floor(count / 3);
  let measured: { readonly startNs: bigint; readonly cpu: NodeJS.CpuUsage } | undefined;
  const served: { readonly slot: ReactorSlot; readonly subscription: { unsubscribe(): void } }[] = [];

  const stop = (): void => {
    for (const { slot, subscription } of served) {
      subscription.unsubscribe();
      slot.close();
    }
    partner.kill('SIGKILL');
  };
  const mark = (): void => {
    if (measured === undefined) {
      measured = { startNs: process.hrtime.bigint(), cpu: process.cpuUsage() };
      left = count;
      return;
    }
    const seconds = Number(process.hrtime.bigint() - measured.startNs) / 1e9;
    const { user, system } = process.cpuUsage(measured.cpu);
    stop();
    console.log(JSON.stringify({ perSecond: Math.round(count / seconds), perCpuSecond: Math.round((count * 1e6) / (user + system)), wakes: reactor.counters.wakes }));
  };

  for (const trigger of triggers) {
    const slot = reactor.add(trigger.fd);
    const subscription = serve(slot, () => {
      if (--left === 0) mark();
    });
    served.push({ slot, subscription });
  }
  const partner = spawn(peer, ['pin', cpu, peer, 'flood', String(fds)], { stdio: ['ignore', 'ignore', 'inherit', ...triggers.map(({ fd }) => fd)] });
}

const [mode, peer = '', ...rest] = process.argv.slice(2);
if (mode === 'pulse') servePulse(peer, rest[0] ?? '0', rest[1] ?? '20000');
else if (mode === 'flood') serveFlood(peer, Number(rest[0]), Number(rest[1]), rest[2] ?? '0', (slot, next) => counts(slot).pipe(addOne).subscribe({ next, error: fail }));
else if (mode === 'bare') serveFlood(peer, Number(rest[0]), Number(rest[1]), rest[2] ?? '0', callbacks);
else throw new Error(`unknown mode ${String(mode)}`);
