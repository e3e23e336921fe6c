import { linuxSyscalls } from '../../../src/devices/linux/syscalls.js';
import { commandName } from '../../../src/devices/vfio-user/messages/header.js';
import { packed, unpacked, type RecordedFd, type RecordedLine } from './recording.js';
import { WireSocket } from './wire-socket.js';

const calls = linuxSyscalls();
/** What a client says in these is its own affair; what they are about shows in what it makes of the replies. */
const ownWords = ['VERSION', 'DEVICE_GET_INFO', 'DEVICE_GET_REGION_INFO', 'DEVICE_GET_IRQ_INFO'];

/** A server that says what another one has said, to a client that asks what was asked then; else it notes where they part, and ends the connection. */
export class ReplayServer {
  readonly #lines: RecordedLine[];
  readonly #listener: number;
  /** The recording's fds, here. */
  readonly #fds = new Map<number, number>();
  /** Ids of the client's commands then, and now. */
  readonly #ids = new Map<number, number>();
  #socket: WireSocket | undefined;
  #asked = 0;
  departed: string | undefined;

  constructor(path: string, lines: readonly RecordedLine[]) {
    this.#lines = lines.filter((line) => !('origin' in line));
    this.#listener = calls.listen(path, 1);
  }

  /** Lines that have not been played. */
  get left(): number {
    return this.#lines.length;
  }

  /** The one client, which has connected. */
  accept(): void {
    const fd = calls.accept(this.#listener);
    if (fd === undefined) throw new Error('nobody has connected');
    this.#socket = new WireSocket(fd, { received: (bytes, fds) => this.#received(bytes, fds), ended: () => undefined });
  }

  close(): void {
    this.#socket?.close();
    calls.close(this.#listener);
    for (const fd of this.#fds.values()) calls.close(fd);
  }

  #received(bytes: Uint8Array, fds: readonly number[]): void {
    this.#asked += 1;
    const then = this.#lines.shift();
    const fault = then === undefined || !('from' in then) || then.from !== 'client' ? 'the client says more than then' : this.#difference(then, bytes, fds);
    if (fault !== undefined) {
      this.departed = `message ${this.#asked} of the client: ${fault}`;
      this.#socket?.close();
      return;
    }
    for (let next = this.#lines[0]; next !== undefined && !('from' in next && next.from === 'client'); next = this.#lines[0]) {
      this.#lines.shift();
      this.#play(next);
    }
  }

  #difference(then: Extract<RecordedLine, { from: unknown }>, bytes: Uint8Array, fds: readonly number[]): string | undefined {
    const [before, now] = [unpacked(then.bytes), Uint8Array.from(bytes)];
    const [a, b] = [new DataView(before.buffer), new DataView(now.buffer)];
    const name = commandName(b.getUint16(2, true)) ?? 'no command';
    if (a.getUint32(8, true) === 0) this.#ids.set(a.getUint16(0, true), b.getUint16(0, true));
    (then.fds ?? []).forEach(({ id }, n) => { if (fds[n] !== undefined) this.#fds.set(id, fds[n]); });
    const known = ownWords.includes(name);
    const same = a.getUint16(2, true) === b.getUint16(2, true) && (known || packed(before.subarray(4)) === packed(now.subarray(4)));
    if (same && (then.fds ?? []).length === fds.length) return undefined;
    return `${name} with ${fds.length} fds, ${packed(now)}; then it was ${packed(before)}`;
  }

  #play(line: RecordedLine): void {
    if ('signal' in line) calls.writeCount(this.#fd(line.signal), BigInt(line.count));
    else if ('file' in line) this.#write(this.#fd(line.file), line.offset, unpacked(line.bytes));
    else if ('from' in line) {
      const bytes = unpacked(line.bytes);
      const view = new DataView(bytes.buffer);
      const id = view.getUint16(0, true);
      if ((view.getUint32(8, true) & 1) !== 0) view.setUint16(0, this.#ids.get(id) ?? id, true);
      this.#socket?.send(bytes, (line.fds ?? []).map((fd) => this.#file(fd)));
    }
  }

  /** A file of the server's, as it was when it was first handed over. */
  #file(recorded: RecordedFd): number {
    if (recorded.kind === 'eventfd') throw new Error('no server of ours hands out eventfds');
    const before = this.#fds.get(recorded.id);
    if (before !== undefined) return before;
    const fd = calls.memfd('replayed', recorded.size);
    this.#fds.set(recorded.id, fd);
    this.#write(fd, 0, unpacked(recorded.holds));
    return fd;
  }

  #write(fd: number, offset: number, bytes: Uint8Array): void {
    calls.pwrite(fd, bytes, BigInt(offset));
  }

  #fd(id: number): number {
    const fd = this.#fds.get(id);
    if (fd === undefined) throw new Error(`no fd ${id} has come yet`);
    return fd;
  }
}
