import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach } from 'vitest';
import { MessageSocket, type SocketUser } from '../../../src/devices/linux/message-socket.js';
import { Reactor } from '../../../src/devices/linux/reactor.js';
import { linuxSyscalls, type Syscalls } from '../../../src/devices/linux/syscalls.js';

/** Two sockets that are connected, for the tests of message-socket.test.ts. */

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-socket-'));
afterAll(() => rmSync(folder, { recursive: true }));

let sockets = 0;
/** Called when a test is over. */
export const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

/** What one end has heard. */
export class End implements SocketUser {
  readonly heard: { readonly bytes: readonly number[]; readonly fds: readonly number[] }[] = [];
  readonly ends: unknown[] = [];
  most = 65_536;
  memory: () => Uint8Array | undefined = () => undefined;
  takesFds: () => boolean = () => true;
  due: () => boolean = () => false;
  told: () => void = () => undefined;

  wanted(): number {
    return this.most;
  }

  received(bytes: Uint8Array, fds: readonly number[]): void {
    this.heard.push({ bytes: [...bytes], fds });
    this.told();
  }

  lost(error: unknown): void {
    this.ends.push(error);
    this.told();
  }

  /** When it has heard, or lost, so much. */
  until(holds: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      this.told = () => {
        if (holds()) resolve();
      };
      this.told();
    });
  }
}

export interface Pair {
  readonly a: MessageSocket;
  readonly b: MessageSocket;
  readonly atA: End;
  readonly atB: End;
}

export function pair(calls: Syscalls = linuxSyscalls(), nowNs?: () => bigint): Pair {
  sockets += 1;
  const path = join(folder, `${sockets}.sock`);
  const listener = calls.listen(path, 1);
  const fdA = calls.connect(path);
  const fdB = calls.accept(listener) ?? -1;
  calls.close(listener);
  // Where turns are measured, each is one of the loop.
  const parts = { calls, reactor: new Reactor(undefined, nowNs === undefined ? {} : { lingerUs: 0 }), name: path, ...(nowNs && { nowNs }) };
  const [atA, atB] = [new End(), new End()];
  const [a, b] = [new MessageSocket(fdA, parts, atA), new MessageSocket(fdB, parts, atB)];
  closing.push(() => a.close(), () => b.close());
  return { a, b, atA, atB };
}
