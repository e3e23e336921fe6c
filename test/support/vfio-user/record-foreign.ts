import { spawn } from 'node:child_process';
import { existsSync, fstatSync, mkdtempSync, rmSync, watch, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { firstValueFrom } from 'rxjs';
import { realClock } from '../../../src/clock.js';
import { Eventfd } from '../../../src/devices/linux/eventfd.js';
import { sharedReactor } from '../../../src/devices/linux/reactor.js';
import { linuxSyscalls } from '../../../src/devices/linux/syscalls.js';
import { openUserPort } from '../../../src/devices/vfio-user/open-user-port.js';
import { commands } from '../../../src/devices/vfio-user/messages/header.js';
import { foreignRun } from './foreign-run.js';
import { packed, type RecordedFd, type RecordedLine } from './recording.js';
import { WireSocket } from './wire-socket.js';

/**
 * Records this library's client against a server of others, as bytes: stands between them, and writes down every message, what file descriptors went along, what
 * the server signals, and what it writes into files that both have.
 *
 *   tsx test/support/vfio-user/record-foreign.ts 'PATH_OF_SERVER' 'WHAT IT IS' OUT.jsonl
 */
const [, , program = '', origin = '', out = ''] = process.argv;
const calls = linuxSyscalls();
const dmaMs = 500;
const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-record-'));
const lines: RecordedLine[] = [];

interface Shared {
  readonly id: number;
  readonly fd: number;
  known: Uint8Array;
}
const files: Shared[] = [];
let ids = 0;

function contentOf(fd: number): Uint8Array {
  const bytes = new Uint8Array(fstatSync(fd).size);
  calls.pread(fd, bytes, 0n);
  return bytes;
}

/** The same file, handed over again, is the same. */
function fileOf(fd: number): RecordedFd {
  const { ino } = fstatSync(fd);
  const before = files.find((file) => fstatSync(file.fd).ino === ino);
  const holds = contentOf(fd);
  const file = before ?? { id: (ids += 1), fd: calls.dup(fd), known: holds };
  if (before === undefined) files.push(file);
  return { kind: 'file', id: file.id, size: holds.length, holds: packed(holds) };
}

/** What the server has written; what the client has, for it was asked by a message, is its own affair. */
function noteChanges(by: 'client' | 'server'): void {
  for (const file of files) {
    const now = contentOf(file.fd);
    if (by === 'client') {
      file.known = now;
      continue;
    }
    let [from, to] = [0, now.length];
    while (from < to && now[from] === file.known[from]) from += 1;
    while (to > from && now[to - 1] === file.known[to - 1]) to -= 1;
    if (from < to) lines.push({ file: file.id, offset: from, bytes: packed(now.subarray(from, to)) });
    file.known = now;
  }
}

/** An eventfd of the client: the server gets another in its place, and whatever it adds is written down and passed on. */
function eventfdOf(fd: number): { readonly recorded: RecordedFd; readonly stands: number } {
  const [id, own, clients] = [(ids += 1), new Eventfd(), calls.dup(fd)];
  const slot = sharedReactor().add(own.fd);
  // That server takes no command while its DMA waits for replies: the client must not hear of the signal before all of it is done.
  const pass = (count: bigint): void => {
    lines.push({ signal: id, count: String(count) });
    calls.writeCount(clients, count);
  };
  const listen = (): void => slot.arm((count) => {
    setTimeout(pass, dmaMs, count);
    listen();
  }, () => undefined);
  listen();
  return { recorded: { kind: 'eventfd', id }, stands: own.fd };
}

const isEventfd = (fd: number): boolean => fstatSync(fd).size === 0 && !fstatSync(fd).isFile();

function isReplyToDmaWrite(message: Uint8Array): boolean {
  return message[2] === commands.DMA_WRITE && message[8] === 1;
}

function relay(client: number, server: number): void {
  const toServer = new WireSocket(server, {
    received: (bytes, fds) => {
      noteChanges('server');
      lines.push({ from: 'server', bytes: packed(bytes), ...(fds.length === 0 ? {} : { fds: fds.map(fileOf) }) });
      toClient.send(bytes, fds);
      for (const fd of fds) calls.close(fd);
    },
    ended: () => toClient.close(),
  });
  const toClient = new WireSocket(client, {
    received: (bytes, fds) => {
      if (isReplyToDmaWrite(bytes)) noteChanges('client');
      const passed = fds.map((fd) => (isEventfd(fd) ? eventfdOf(fd) : { recorded: fileOf(fd), stands: fd }));
      lines.push({ from: 'client', bytes: packed(bytes), ...(fds.length === 0 ? {} : { fds: passed.map(({ recorded }) => recorded) }) });
      toServer.send(bytes, passed.map(({ stands }) => stands));
      for (const fd of fds) calls.close(fd);
    },
    ended: () => toServer.close(),
  });
}

const path = join(folder, 'server.sock');
const listening = new Promise<void>((resolve) => {
  const watcher = watch(folder, () => {
    if (!existsSync(path)) return;
    watcher.close();
    resolve();
  });
});
const child = spawn(program, ['-v', path], { stdio: 'ignore' });
await listening;

const proxy = join(folder, 'proxy.sock');
const listener = calls.listen(proxy, 1);
const opening = firstValueFrom(openUserPort(proxy, realClock));
relay(calls.accept(listener) ?? -1, calls.connect(path));
const port = await opening;
const time = BigInt(Math.floor(Date.now() / 1000) + 2);
const facts = await foreignRun(port, time);
await port[Symbol.asyncDispose]();
child.kill();
rmSync(folder, { recursive: true });
writeFileSync(out, [{ origin, time: String(time), facts }, ...lines].map((line) => `${JSON.stringify(line)}\n`).join(''));
console.log(facts);
process.exit(0);
