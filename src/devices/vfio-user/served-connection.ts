import { constants } from 'node:os';
import { concatMap, defaultIfEmpty, EMPTY, map, of, toArray, type Observable, type Subscription } from 'rxjs';
import { VfioError, type VfioErrorCode } from '../../errors.js';
import { absentIsEmpty } from '../call.js';
import type { DevicePort, IrqInfo } from '../port.js';
import { protocolError } from '../uapi/bytes.js';
import { UserConnection, type Answer, type CommandServer, type ConnectionParts, type Reply } from './connection.js';
import { isStateCommand } from './messages/feature.js';
import type { CommandName } from './messages/header.js';
import { encodeDeviceInfo, encodeIrqInfo, encodeNoIoFds, readInfoQuery, remapTravels } from './messages/infos.js';
import { readUserIrqSet } from './messages/set-irqs.js';
import { defaultCapabilities, encodeVersion, ownVersion, readVersion } from './messages/version.js';
import { clientMemory } from './client-memory.js';
import { releasedInTime } from './port-release.js';
import { ServedDma } from './served-dma.js';
import { ServedIrqs } from './served-irqs.js';
import { ServedLane, type LaneParts, type ServedCommand } from './served-lane.js';
import { ServedRegions } from './served-regions.js';
import { ServedRemaps } from './served-remaps.js';
import { ServedShares } from './served-shares.js';
import { ServedState } from './served-state.js';

/** Commands that wait behind the one that is served; then the client is held up. */
const mostWaiting = 64;
/** What may wait all the same while the device's DMA waits for a reply of the client, bytes. */
const mostWaitingBytes = 8 * 1024 * 1024;
/** fds of commands that wait: then the client is held up; and where that cannot be, as above, the connection ends. */
const heldUpFds = 64;
const mostWaitingFds = 256;
/** Those about device_state that wait behind one that is blocked: more are EBUSY, since a client that is held up could not ack. */
const mostStateCalls = 16;

/** A client that has connected and says nothing for so long makes room for the next one, ms. */
export const versionBoundMs = 10_000;

const nothing = new Uint8Array(0);

/**
 * One client of a port. Commands are served one after the other and answered in their order, as the protocol wants; a port whose driver keeps one of them keeps
 * the client. What the port cannot do over this socket it says by errno.
 *
 * Where both sides speak of remaps a driver may keep a write of device_state until the client has asked, unmapped and acked: so what is about device_state has an
 * order of its own, and everything else goes past it. Each begins when all that came before it has been served.
 */
export class ServedConnection implements CommandServer {
  readonly #port: DevicePort;
  readonly #connection: UserConnection;
  readonly #regions: ServedRegions;
  readonly #shares: ServedShares;
  readonly #irqs: ServedIrqs;
  readonly #remaps: ServedRemaps;
  readonly #dma: ServedDma;
  readonly #state: ServedState;
  readonly #commands: ServedLane;
  readonly #stateCommands: ServedLane;
  readonly #ended: (error: VfioError | undefined) => void;
  readonly #patience: Subscription;
  #agreed = false;
  #remapAgreed = false;
  /** What the client takes with one message. */
  #mostBytes = defaultCapabilities.maxDataBytes;
  #error: VfioError | undefined;
  #over = false;

  /**
   * The fd and the port are its own from here on.
   *
   * @param ended called once, when the client has gone and the port is released; with an error where the client broke the protocol, or the port is not released in time
   */
  constructor(fd: number, port: DevicePort, parts: ConnectionParts, ended: (error: VfioError | undefined) => void) {
    const { calls, reactor } = parts;
    this.#port = port;
    this.#ended = ended;
    this.#shares = new ServedShares(port, calls);
    this.#regions = new ServedRegions(port, this.#shares);
    this.#irqs = new ServedIrqs({ port, calls, reactor });
    this.#remaps = new ServedRemaps({ port, calls, reactor, shares: this.#shares });
    this.#dma = new ServedDma(port, calls, clientMemory(() => this.#connection, () => this.#mostBytes));
    this.#state = new ServedState(port, () => this.#dma.ranges);
    const lane: Omit<LaneParts, 'serve'> = {
      errnoOf,
      closeFds: (fds) => this.#connection.closeFds(fds),
      moved: () => {
        if (this.#commands.length < mostWaiting / 2 && this.#commands.fds < heldUpFds / 2) this.#connection.resume();
      },
      failed: (error) => {
        this.#error = error as VfioError;
        this.close();
      },
    };
    this.#commands = new ServedLane({ ...lane, serve: (command, fds) => this.#inOrder(command, fds) });
    this.#stateCommands = new ServedLane({ ...lane, serve: (command, fds) => this.#serve(command, fds) });
    this.#connection = new UserConnection(fd, parts, this);
    this.#patience = port.clock.scheduler.schedule(() => {
      this.lost(new VfioError('VFIO_E_DEADLINE', `the client has not said VERSION in ${versionBoundMs} ms: the next one has its turn`, { operation: 'serve', device: port.name }));
    }, versionBoundMs);
  }

  command(name: CommandName | undefined, payload: Uint8Array, fds: readonly number[], answer: Answer): void {
    if (!this.#agreed) {
      this.#connection.closeFds(fds);
      this.#agree(name, payload, answer);
      return;
    }
    if (this.#commands.length >= mostWaiting - 1 || this.#commands.fds + fds.length >= heldUpFds) this.#connection.pause();
    if (this.#commands.bytes > mostWaitingBytes || this.#commands.fds > mostWaitingFds) {
      this.#connection.closeFds(fds);
      throw new VfioError('VFIO_E_LIMIT', 'the client asks on and on, and does not answer', { operation: 'vfio-user', device: this.#port.name });
    }
    this.#commands.push({ name, payload, fds, answer });
  }

  lost(error: VfioError | undefined): void {
    this.#error ??= error;
    this.close();
  }

  /** Takes everything of this client away; the client sees the end when the port is released, or no longer waited for. Memory that it gave stays until the port has let go of it. */
  close(): void {
    if (this.#over) return;
    this.#over = true;
    this.#patience.unsubscribe();
    this.#commands.end();
    this.#stateCommands.end();
    this.#state.release();
    this.#irqs.release();
    this.#remaps.release();
    this.#port.close();
    const released = (): void => {
      this.#dma.release();
      this.#shares.release();
    };
    this.#port.released.subscribe({ complete: released, error: released });
    const end = (late?: VfioError): void => {
      this.#connection.close(new VfioError('VFIO_E_CLOSED', 'the server has closed the device', { operation: 'serve', device: this.#port.name }));
      this.#ended(this.#error ?? late);
    };
    releasedInTime(this.#port).subscribe({ complete: () => end(), error: end });
  }

  /** VERSION comes first, and once; whatever else comes first is no vfio-user. */
  #agree(name: CommandName | undefined, payload: Uint8Array, answer: Answer): void {
    if (name !== 'VERSION') throw protocolError({ operation: 'vfio-user VERSION' }, 0, 'the client began with another message');
    const { remap, maxDataBytes } = readVersion(payload).capabilities;
    this.#remapAgreed = remap;
    this.#mostBytes = maxDataBytes;
    this.#agreed = true;
    this.#patience.unsubscribe();
    answer(encodeVersion({ ...ownVersion, capabilities: { ...ownVersion.capabilities, remap: this.#remapAgreed } }));
  }

  #inOrder(command: ServedCommand, fds: number[]): Observable<Reply> {
    if (!this.#remapAgreed || !isStateCommand(command.name, command.payload)) return this.#serve(command, fds);
    if (this.#stateCommands.length >= mostStateCalls) throw this.#refusal('VFIO_E_BUSY', 'a write of device_state has not returned');
    this.#stateCommands.push({ ...command, fds: fds.splice(0) });
    return EMPTY;
  }

  #serve({ name, payload }: ServedCommand, fds: number[]): Observable<Reply> {
    return name === 'DEVICE_GET_REGION_INFO' ? this.#regions.info(payload) : this.#answer(name, payload, fds).pipe(map((reply) => ({ payload: reply, fds: [] })));
  }

  #answer(name: CommandName | undefined, payload: Uint8Array, fds: number[]): Observable<Uint8Array> {
    switch (name) {
      case 'DMA_MAP':
        return silent(this.#dma.map(payload, fds));
      case 'DMA_UNMAP':
        return this.#dma.unmap(payload);
      case 'DEVICE_GET_INFO':
        return this.#port.info().pipe(map(encodeDeviceInfo));
      case 'DEVICE_GET_REGION_IO_FDS':
        return of(encodeNoIoFds(readInfoQuery(payload, name).index));
      case 'DEVICE_GET_IRQ_INFO':
        return this.#irqInfo(payload);
      case 'DEVICE_SET_IRQS':
        return this.#setIrqs(payload, fds);
      case 'REGION_READ':
        return this.#regions.read(payload);
      case 'REGION_WRITE':
        return this.#regions.write(payload);
      case 'REGION_WRITE_MULTI':
        return this.#regions.writeMulti(payload);
      case 'DEVICE_RESET':
        return silent(this.#port.reset().pipe(map(() => this.#state.release())));
      case 'DEVICE_FEATURE':
        return this.#state.feature(payload);
      case 'MIG_DATA_READ':
        return this.#state.read(payload);
      case 'MIG_DATA_WRITE':
        return silent(this.#state.write(payload));
      default:
        throw protocolError({ operation: 'vfio-user' }, 2, 'no command for a server');
    }
  }

  /** An index that the device does not use is an irq of no vectors. So is a remap irq that this client cannot serve. */
  #irqInfo(payload: Uint8Array): Observable<Uint8Array> {
    const { index, argsz } = readInfoQuery(payload, 'DEVICE_GET_IRQ_INFO');
    const unused = { index, flags: 0, count: 0 };
    return this.#port.info().pipe(
      concatMap(({ irqs }) => {
        if (index >= irqs) throw this.#refusal('VFIO_E_NO_IRQ', `there is no irq ${index}`);
        return this.#port.irqInfo(index).pipe(absentIsEmpty('VFIO_E_NO_IRQ'), map((info) => (this.#isShown(info) ? info : unused)), defaultIfEmpty(unused));
      }),
      map((info) => encodeIrqInfo(info, argsz)),
    );
  }

  #setIrqs(payload: Uint8Array, fds: number[]): Observable<Uint8Array> {
    const set = readUserIrqSet(payload, fds.length);
    return this.#port.irqInfo(set.index).pipe(
      concatMap((info) => {
        if (!this.#isShown(info) || set.start + set.count > info.count) throw this.#refusal('VFIO_E_NO_IRQ', `irq ${set.index} has no such vector`);
        return silent(info.remap === undefined ? this.#irqs.set(info, set, fds) : this.#remaps.set(info, set, fds));
      }),
    );
  }

  #isShown(info: IrqInfo): boolean {
    return info.remap === undefined || (this.#remapAgreed && remapTravels(info));
  }

  #refusal(code: VfioErrorCode, message: string): VfioError {
    return new VfioError(code, message, { operation: 'serve', device: this.#port.name });
  }
}

/** A call whose reply says nothing. */
function silent(call: Observable<unknown>): Observable<Uint8Array> {
  return call.pipe(toArray(), map(() => nothing));
}

const byCode: Partial<Readonly<Record<VfioErrorCode, keyof typeof constants.errno>>> = {
  VFIO_E_UNSUPPORTED: 'EOPNOTSUPP',
  VFIO_E_BUSY: 'EBUSY',
  VFIO_E_NO_DEVICE: 'ENODEV',
  VFIO_E_CLOSED: 'ENODEV',
  VFIO_E_LIMIT: 'ENOSPC',
  VFIO_E_REFUSED: 'EPERM',
  VFIO_E_ACK_TIMEOUT: 'ETIMEDOUT',
  VFIO_E_CANCELED: 'ECANCELED',
  VFIO_E_SUSPENDED: 'EIO',
  VFIO_E_IO: 'EIO',
};

/** What a device's or a client's fault is on the wire: the device's errno where there is one, EPROTO where it lied, EINVAL for what the client should not have asked. */
function errnoOf(error: unknown): number {
  if (!VfioError.is(error)) return constants.errno.EIO;
  if (error.code === 'VFIO_E_PROTOCOL') return error.operation.startsWith('vfio-user') ? constants.errno.EINVAL : constants.errno.EPROTO;
  const named = error.errno === undefined ? undefined : (constants.errno as Readonly<Record<string, number>>)[error.errno];
  return named ?? constants.errno[byCode[error.code] ?? 'EINVAL'];
}
