import { VfioError, type VfioErrorCode } from '../../errors.js';
import type { IrqInfo } from '../uapi/irq-info.js';
import type { IrqAct, IrqSet } from '../uapi/irq-set.js';
import { enabledAfter, irqKind, irqRefusal, registrationRefusal, type IrqKind, type IrqUse } from './irq-rules.js';

/** One vector's eventfds, made for the registry. */
export interface VectorEventfds<Fd> {
  readonly vector: number;
  readonly triggerFd: Fd;
  readonly ackFd: Fd | undefined;
  /** Closes the eventfds: nothing is registered any more. */
  dispose(): void;
}

/** The device under a registry. All may throw. */
export interface IrqDevice<Fd, Vector extends VectorEventfds<Fd>> {
  readonly name: string;
  /** What stands for no eventfd in a call. */
  readonly none: Fd;
  pci(): boolean;
  info(index: number): IrqInfo;
  /** Fresh eventfds, not registered. */
  make(index: number, vector: number, withAck: boolean): Vector;
  /** VFIO_DEVICE_SET_IRQS. */
  set(set: IrqSet<Fd>): void;
}

interface OpenIndex<Vector> {
  readonly kind: IrqKind;
  readonly info: IrqInfo;
  readonly vectors: Map<number, Vector>;
  enabled: number;
}

/**
 * Which vectors of which irq are registered, for any port: what the table of `irq-rules.ts` refuses never reaches the device;
 * several vectors of one index are registered together or not at all; the last one that goes turns its index off.
 */
export class IrqRegistry<Fd, Vector extends VectorEventfds<Fd>> {
  readonly #device: IrqDevice<Fd, Vector>;
  readonly #open = new Map<number, OpenIndex<Vector>>();

  constructor(device: IrqDevice<Fd, Vector>) {
    this.#device = device;
  }

  /** Registers fresh eventfds for these vectors, in this order. */
  register(index: number, vectors: readonly number[], withAck: boolean): readonly Vector[] {
    const open = this.#open.get(index) ?? this.#ask(index);
    this.#check(index, vectors, withAck, open);
    const made: Vector[] = [];
    const told: Vector[] = [];
    try {
      for (const vector of vectors) made.push(this.#device.make(index, vector, withAck));
      this.#open.set(index, open);
      for (const { start, run } of runsOf(made, open.enabled === 0)) {
        this.#set(open, { index, action: 'trigger', data: 'eventfd', start, fds: run.map((one) => one?.triggerFd ?? this.#device.none) });
        told.push(...run.filter((one) => one !== undefined));
      }
      if (withAck) {
        for (const { start, run } of runsOf(made, false)) {
          this.#set(open, { index, action: 'unmask', data: 'eventfd', start, fds: run.map((one) => one?.ackFd ?? this.#device.none) });
        }
      }
    } catch (error) {
      // What went wrong first is what counts; a device that is gone fails every step of the way back, too.
      inTurn([() => this.#takeAway(index, open, told), ...made.map((one) => () => one.dispose())]);
      throw error;
    }
    for (const one of made) open.vectors.set(one.vector, one);
    return made;
  }

  /** TRIGGER, MASK or UNMASK without eventfds. */
  act(act: IrqAct): void {
    const open = this.#open.get(act.index);
    if (open === undefined) throw this.#error('VFIO_E_RANGE', `irq ${act.index} is not enabled`, act.index);
    if (act.action === 'trigger' && act.data === 'none' && act.count === 0) throw this.#error('VFIO_E_RANGE', `close the handles of irq ${act.index} to turn it off`, act.index);
    this.#set(open, act);
  }

  /** Takes one vector away from the device, and closes its eventfds whatever the device says; then throws what it said. */
  release(index: number, vector: number): void {
    const open = this.#open.get(index);
    const one = open?.vectors.get(vector);
    if (open === undefined || one === undefined) return;
    open.vectors.delete(vector);
    const [first] = inTurn([() => this.#takeAway(index, open, [one]), () => one.dispose()]);
    if (first !== undefined) throw first.error;
  }

  /** What is registered. */
  get registered(): readonly Vector[] {
    return [...this.#open.values()].flatMap(({ vectors }) => [...vectors.values()]);
  }

  #ask(index: number): OpenIndex<Vector> {
    const info = this.#device.info(index);
    return { kind: irqKind(info, this.#device.pci()), info, vectors: new Map(), enabled: 0 };
  }

  /** Whatever the device would not take is said before it has taken anything. */
  #check(index: number, vectors: readonly number[], withAck: boolean, open: OpenIndex<Vector>): void {
    const refusal = registrationRefusal(vectors, withAck, new Set(open.vectors.keys()), this.#useOf(open));
    if (refusal !== undefined) throw this.#error(refusal.code, refusal.message, index);
  }

  #useOf({ kind, info, enabled }: OpenIndex<Vector>): IrqUse {
    return { kind, info, enabled, on: new Set([...this.#open.values()].filter((other) => other.enabled > 0).map((other) => other.kind)) };
  }

  #require(open: OpenIndex<Vector>, set: IrqSet<unknown>): void {
    const refusal = irqRefusal(set, this.#useOf(open));
    if (refusal !== undefined) throw this.#error(refusal.code, refusal.message, set.index);
  }

  /** DATA_NONE with count 0 would silence every vector of the index: it is for the last ones. */
  #takeAway(index: number, open: OpenIndex<Vector>, going: readonly Vector[]): void {
    if (open.vectors.size === 0) {
      this.#open.delete(index);
      if (open.enabled > 0) this.#set(open, { index, action: 'trigger', data: 'none', count: 0 });
      return;
    }
    const { none } = this.#device;
    const [first] = inTurn(going.flatMap(({ vector, ackFd }) => [
      () => this.#set(open, { index, action: 'trigger', data: 'eventfd', start: vector, fds: [none] }),
      ...(ackFd === undefined ? [] : [() => this.#set(open, { index, action: 'unmask', data: 'eventfd', start: vector, fds: [none] })]),
    ]));
    if (first !== undefined) throw first.error;
  }

  #set(open: OpenIndex<Vector>, set: IrqSet<Fd>): void {
    this.#require(open, set);
    this.#device.set(set);
    open.enabled = enabledAfter(set, open.kind, open.enabled, this.#device.none);
  }

  #error(code: VfioErrorCode, message: string, index: number): VfioError {
    return new VfioError(code, message, { operation: `VFIO_DEVICE_SET_IRQS(${index})`, device: this.#device.name });
  }
}

/** Neighbours, or with `undefined` for what lies between. */
export interface Run<Vector> {
  readonly start: number;
  readonly run: readonly (Vector | undefined)[];
}

/**
 * Vectors as the calls that register them: one for each run of neighbours. The call that turns an index on must name all, because
 * it decides how many are enabled; between calls a gap may hold somebody else's vector, which `none` would take away.
 */
export function runsOf<Vector extends { readonly vector: number }>(vectors: readonly Vector[], withGaps: boolean): readonly Run<Vector>[] {
  const sorted = [...vectors].sort((a, b) => a.vector - b.vector);
  const runs: { start: number; run: (Vector | undefined)[] }[] = [];
  for (const one of sorted) {
    const last = runs.at(-1);
    if (last === undefined || (!withGaps && last.start + last.run.length !== one.vector)) runs.push({ start: one.vector, run: [one] });
    else last.run.push(...Array.from({ length: one.vector - last.start - last.run.length }, () => undefined), one);
  }
  return runs;
}

/** Runs every step, also after one that threw; what was thrown, in order. */
function inTurn(steps: readonly (() => void)[]): readonly { readonly error: unknown }[] {
  return steps.flatMap((step) => {
    try {
      step();
      return [];
    } catch (error) {
      return [{ error }];
    }
  });
}
