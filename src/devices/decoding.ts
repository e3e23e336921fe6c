import { catchError, concat, concatMap, defer, EMPTY, forkJoin, ignoreElements, map, merge, of, tap, throwError, type Observable } from 'rxjs';
import { VfioError } from '../errors.js';
import { disregard, ownedCall } from './call.js';
import type { AccessRequest, Call, DevicePort } from './port.js';
import { pciConfigLayout } from './protocol/pci-capabilities.js';
import { decodesMemory, decodingEffect, decodingRegisters, type DecodingEffect, type DecodingRegisters } from './protocol/pci-decoding.js';

/** What traps while the device does not decode: a region. */
export interface Suspendable {
  /** Accessors trap, and nobody is handed a mapped piece. */
  suspend(): void;
  /** Accessors use what is mapped and offered again. */
  resume(): void;
  /** Somebody outside the accessors has some of it, or was asked and has not let go. */
  readonly held: boolean;
  releaseHolders(budgetMs: number): Observable<never>;
  offer(budgetMs: number): Call<void>;
}

/** Where PCI configuration space is. */
export interface ConfigRegion {
  readonly index: number;
  readonly size: number;
}

/** A call after which, or while which, mapped memory may fault. */
interface Change<T> {
  readonly what: string;
  readonly suspends: boolean;
  /** Whether the registers are asked afterwards. */
  readonly asks: boolean;
  readonly call: Call<T>;
}

/** How long holders have to let go before a device stops decoding, and to take back afterwards, ms. */
const budgetMs = 100;

/** Both registers lie in it, and every capability that leads to them. */
const headBytes = pciConfigLayout.extended;

/**
 * Keeps the process alive around whatever makes a mapped BAR fault (SIGBUS): Memory Space Enable, the power state and function
 * level reset, which are writes to configuration space, by accessor or by request; low power; VFIO_DEVICE_RESET.
 *
 * Before any of these every region traps and its holders let go; once the registers say that the device decodes again,
 * accessors use the mappings again. The mappings stay all the while: the kernel fills them anew at the next touch.
 *
 * What the user writes is what is known: the kernel switches decoding on when it opens a PCI device. One change at a time
 * (VFIO_E_BUSY), so that what is read back belongs to what was written. `device.port` goes around all this.
 */
export class Decoding {
  readonly #port: DevicePort;
  readonly #regions: () => Iterable<Suspendable>;
  readonly #config: ConfigRegion | undefined;
  #registers: DecodingRegisters | undefined;
  /** What the registers said last. */
  #memoryOff = false;
  #lowPower = false;
  /** What is outstanding; a change that suspends does so until it is over. */
  #change: Change<unknown> | undefined;
  #suspended = false;

  /** @param config undefined: not a PCI device, whose configuration space decides nothing */
  constructor(port: DevicePort, config: ConfigRegion | undefined, regions: () => Iterable<Suspendable>) {
    this.#port = port;
    this.#config = config;
    this.#regions = regions;
  }

  /** A trapped access made now could wait: for a reset, or until the device has woken up. */
  get mayBlock(): boolean {
    return this.#lowPower || this.#change?.suspends === true;
  }

  /** Trapped access, as `DevicePort.access`. */
  access(request: AccessRequest): Call<Uint8Array> {
    return defer(() => {
      const call = this.#port.access(request);
      const { write } = request;
      if (write === undefined || request.region !== this.#config?.index) return call.pipe(catchError((error: unknown) => throwError(() => this.#explain(error))));
      return this.#knowRegisters().pipe(
        concatMap((registers) => {
          const { touches, suspends } = decodingEffect(registers, request.offset, write);
          return touches ? this.#make({ what: 'write of configuration space', suspends, asks: true, call }) : call;
        }),
      );
    });
  }

  /** Trapped access at once, as `DevicePort.accessNow`. Throws VFIO_E_WOULD_BLOCK where the kernel would sleep or a holder has to be waited for. */
  accessNow(request: AccessRequest): Uint8Array {
    const { write } = request;
    if (write === undefined || request.region !== this.#config?.index) {
      try {
        return this.#port.accessNow(request);
      } catch (error) {
        throw this.#explain(error);
      }
    }
    this.#registers ??= decodingRegisters(this.#readNow(0, Math.min(headBytes, this.#config.size)));
    const effect = decodingEffect(this.#registers, request.offset, write);
    return effect.touches ? this.#makeNow(effect, request, this.#registers) : this.#port.accessNow(request);
  }

  /** VFIO_DEVICE_RESET or the like: mapped memory would fault meanwhile. */
  reset<T>(call: Call<T>): Call<T> {
    return this.#make({ what: 'reset', suspends: true, asks: true, call });
  }

  /** VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY or _EXIT. */
  lowPower(enter: boolean, call: Call<void>): Call<void> {
    return this.#make({ what: enter ? 'entry into low power' : 'exit from low power', suspends: enter, asks: false, call: call.pipe(tap(() => (this.#lowPower = enter))) });
  }

  #make<T>(change: Change<T>): Call<T> {
    // It runs to its end whoever listens: nobody else would let the accessors use their mappings again.
    return ownedCall(() => {
      this.#begin(change);
      return concat(change.suspends ? this.#releaseHolders() : EMPTY, change.call).pipe(
        catchError((error: unknown) => concat(this.#askRegisters(change), throwError(() => { this.#end(); return error; }))),
        concatMap((value) => concat(this.#askRegisters(change), defer(() => { this.#end(); return of(value); }))),
      );
    });
  }

  #makeNow({ suspends, slow }: DecodingEffect, request: AccessRequest, { command, power }: DecodingRegisters): Uint8Array {
    const operation = 'write of configuration space';
    if (slow || (suspends && [...this.#regions()].some(({ held }) => held))) {
      throw this.#error('VFIO_E_WOULD_BLOCK', slow ? 'the kernel sleeps until the device has changed its power state or is reset: use request()' : 'holders of mapped areas must let go first: use request()', operation);
    }
    this.#begin({ what: operation, suspends, asks: true, call: EMPTY });
    try {
      return this.#port.accessNow(request);
    } finally {
      try {
        this.#learn(this.#readNow(command, 1), power === undefined ? undefined : this.#readNow(power, 1));
      } catch {
        this.#memoryOff ||= suspends;
      }
      this.#end();
    }
  }

  #begin(change: Change<unknown>): void {
    if (this.#change !== undefined) throw this.#error('VFIO_E_BUSY', `a ${this.#change.what} has not returned yet; one at a time`, change.what);
    this.#change = change;
    this.#update();
  }

  #end(): void {
    this.#change = undefined;
    this.#update();
  }

  #update(): void {
    const suspended = this.#memoryOff || this.#lowPower || this.#change?.suspends === true;
    if (suspended === this.#suspended) return;
    this.#suspended = suspended;
    for (const region of this.#regions()) {
      if (suspended) region.suspend();
      else {
        region.resume();
        disregard(region.offer(budgetMs));
      }
    }
  }

  #releaseHolders(): Observable<never> {
    return merge(...[...this.#regions()].map((region) => region.releaseHolders(budgetMs)));
  }

  /** Never fails: registers that do not answer leave the regions as the change found them, or suspended. */
  #askRegisters({ asks, suspends }: Change<unknown>): Observable<never> {
    const config = this.#config;
    if (!asks || config === undefined) return EMPTY;
    return this.#knowRegisters().pipe(
      concatMap(({ command, power }) => forkJoin([this.#read(command, 1), power === undefined ? of(undefined) : this.#read(power, 1)])),
      tap(([command, power]) => this.#learn(command, power)),
      catchError(() => {
        this.#memoryOff ||= suspends;
        return EMPTY;
      }),
      ignoreElements(),
    );
  }

  #learn(command: Uint8Array, power: Uint8Array | undefined): void {
    this.#memoryOff = !decodesMemory(command[0] ?? 0, power?.[0]);
  }

  #knowRegisters(): Call<DecodingRegisters> {
    if (this.#registers !== undefined) return of(this.#registers);
    return this.#read(0, headBytes).pipe(map((head) => (this.#registers = decodingRegisters(head))));
  }

  #read(offset: number, bytes: number): Call<Uint8Array> {
    const { index, size } = this.#config ?? { index: 0, size: 0 };
    return this.#port.access({ region: index, offset, readBytes: Math.min(bytes, size) });
  }

  #readNow(offset: number, bytes: number): Uint8Array {
    return this.#port.accessNow({ region: this.#config?.index ?? 0, offset, readBytes: bytes });
  }

  /** EIO of a trapped access has a cause that we know. */
  #explain(error: unknown): unknown {
    if (!this.#memoryOff || !VfioError.is(error) || error.errno !== 'EIO') return error;
    return new VfioError('VFIO_E_SUSPENDED', 'memory decoding is off (Memory Space Enable is clear, or the power state is D3hot): device.config.memorySpace(true)', {
      operation: error.operation, device: error.device, errno: error.errno, cause: error,
    });
  }

  #error(code: 'VFIO_E_BUSY' | 'VFIO_E_WOULD_BLOCK', message: string, operation: string): VfioError {
    return new VfioError(code, message, { operation, device: this.#port.name, ...(code === 'VFIO_E_BUSY' ? { errno: 'EBUSY' } : {}) });
  }
}
