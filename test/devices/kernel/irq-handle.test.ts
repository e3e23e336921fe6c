import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KernelIrq } from '../../../src/devices/kernel/irq-handle.js';
import { koffiBinding } from '../../../src/devices/linux/koffi-binding.js';
import { Reactor } from '../../../src/devices/linux/reactor.js';
import { Syscalls } from '../../../src/devices/linux/syscalls.js';
import type { IrqLine } from '../../../src/devices/port.js';
import { IrqRegistry } from '../../../src/devices/protocol/irq-registry.js';
import { encodeIrqSet, type IrqAct } from '../../../src/devices/uapi/irq-set.js';
import { errnoError } from '../../../src/errors.js';
import { faultyBinding, type FaultPlan } from '../../support/faulty-binding.js';
import { countFds } from '../linux/process-state.js';

const trigger = 1 << 5;
const unmask = 1 << 4;
const [dataNone, dataEventfd] = [1, 1 << 2];

interface Told {
  readonly flags: number;
  readonly index: number;
  readonly start: number;
  readonly count: number;
  /** -1, or 'fd' for any other. */
  readonly fd: 'fd' | number | undefined;
}

function read(bytes: Uint8Array): Told {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const fd = bytes.length > 20 ? view.getInt32(20, true) : undefined;
  return { flags: view.getUint32(4, true), index: view.getUint32(8, true), start: view.getUint32(12, true), count: view.getUint32(16, true), fd: fd === undefined || fd < 0 ? fd : 'fd' };
}

/** A device whose every irq has eight vectors, may grow and can be masked, until it is gone. */
class IrqBoard {
  readonly told: Told[] = [];
  readonly reactor: Reactor;
  readonly #irqs: IrqRegistry<number, KernelIrq>;
  /** From this SET_IRQS on (from 1) the device is gone. */
  gone = Infinity;

  constructor(plan: FaultPlan = {}) {
    const calls = new Syscalls(faultyBinding(koffiBinding(), plan));
    this.reactor = new Reactor(calls);
    const context = {
      device: 'd0',
      calls,
      reactor: this.reactor,
      act: (act: IrqAct) => this.#irqs.act(act),
      release: ({ index, vector }: Required<IrqLine>) => this.#irqs.release(index, vector),
    };
    this.#irqs = new IrqRegistry<number, KernelIrq>({
      name: 'd0',
      none: -1,
      pci: () => false,
      info: (index) => ({ index, flags: 3, count: 8, eventfd: true, maskable: true, automasked: false, noResize: false }),
      make: (index, vector, withAck) => new KernelIrq(context, { index, vector }, withAck),
      set: (set) => {
        this.told.push(read(encodeIrqSet(set)));
        if (this.told.length >= this.gone) throw errnoError('ENODEV', `SET_IRQS irq ${set.index} ${set.action}`, 'd0');
      },
    });
  }

  get open(): number {
    return this.#irqs.registered.length;
  }

  irqs(index: number, vectors: readonly number[], withAck = false): readonly KernelIrq[] {
    return this.#irqs.register(index, vectors, withAck);
  }

  irq({ index, vector = 0 }: IrqLine, withAck = false): KernelIrq {
    const [irq] = this.irqs(index, [vector], withAck);
    if (irq === undefined) throw new Error('nothing was registered');
    return irq;
  }
}

let fds: readonly number[];
const openFds = (): readonly number[] => [countFds('eventfd'), countFds('eventpoll')];
const now = (irq: KernelIrq): void => {
  irq.close().subscribe();
};

beforeEach(() => {
  fds = openFds();
});

afterEach(() => {
  expect(openFds()).toEqual(fds);
});

describe('several vectors of one index', () => {
  it('are taken away one by one, and the last with the whole index', () => {
    const board = new IrqBoard();
    const vectors = [0, 1, 2].map((vector) => board.irq({ index: 2, vector }));
    const other = board.irq({ index: 1 });
    board.told.length = 0;
    for (const irq of vectors) now(irq);
    now(other);
    expect(board.told).toEqual([
      { flags: dataEventfd | trigger, index: 2, start: 0, count: 1, fd: -1 },
      { flags: dataEventfd | trigger, index: 2, start: 1, count: 1, fd: -1 },
      { flags: dataNone | trigger, index: 2, start: 0, count: 0, fd: undefined },
      { flags: dataNone | trigger, index: 1, start: 0, count: 0, fd: undefined },
    ]);
    expect(board.reactor.counters.slots).toBe(0);
  });

  it('lose the ack of one of them alone, too', () => {
    const board = new IrqBoard();
    const [first, second] = [board.irq({ index: 5 }, true), board.irq({ index: 5, vector: 1 }, true)];
    board.told.length = 0;
    now(second);
    now(first);
    expect(board.told).toEqual([
      { flags: dataEventfd | trigger, index: 5, start: 1, count: 1, fd: -1 },
      { flags: dataEventfd | unmask, index: 5, start: 1, count: 1, fd: -1 },
      { flags: dataNone | trigger, index: 5, start: 0, count: 0, fd: undefined },
    ]);
  });

  it('a registration that fails leaves the others alone', () => {
    const board = new IrqBoard();
    const first = board.irq({ index: 5 });
    board.gone = 3;
    expect(() => board.irq({ index: 5, vector: 1 }, true)).toThrow(expect.objectContaining({ errno: 'ENODEV' }));
    expect(board.told.slice(3)).toEqual([
      { flags: dataEventfd | trigger, index: 5, start: 1, count: 1, fd: -1 },
      { flags: dataEventfd | unmask, index: 5, start: 1, count: 1, fd: -1 },
    ]);
    board.gone = Infinity;
    now(first);
  });
});

describe('nothing leaks', () => {
  it.each([
    ['at the trigger', 1],
    ['between trigger and ack', 2],
  ])('when the device vanishes %s', (_, gone) => {
    const board = new IrqBoard();
    board.gone = gone;
    expect(() => board.irq({ index: 5 }, true)).toThrow(expect.objectContaining({ code: 'VFIO_E_NO_DEVICE', operation: gone === 1 ? 'SET_IRQS irq 5 trigger' : 'SET_IRQS irq 5 unmask' }));
    expect(board.reactor.counters.slots).toBe(0);
    expect(board.reactor.epollFd).toBeUndefined();
    expect(openFds()).toEqual(fds);
  });

  it('when the device vanishes before the handle is closed: the error comes after all is closed', () => {
    const board = new IrqBoard();
    const irq = board.irq({ index: 5 }, true);
    const ends: unknown[] = [];
    irq.next().subscribe({ error: (error: unknown) => ends.push(error) });
    board.gone = 3;
    expect(() => irq.release()).toThrow(expect.objectContaining({ errno: 'ENODEV' }));
    expect(ends).toEqual([expect.objectContaining({ code: 'VFIO_E_CLOSED' })]);
    expect([board.open, board.reactor.counters.slots, board.reactor.epollFd]).toEqual([0, 0, undefined]);
    irq.release();
  });

  it.each([
    ['no eventfd', { eventfd: ['EMFILE'] }, 'VFIO_E_LIMIT', 'EMFILE'],
    ['no second eventfd', { eventfd: [undefined, 'EMFILE'] }, 'VFIO_E_LIMIT', 'EMFILE'],
    ['no epoll fd', { epollCreate: ['EMFILE'] }, 'VFIO_E_LIMIT', 'EMFILE'],
    ['no room in epoll', { epollControl: ['ENOSPC'] }, 'VFIO_E_LIMIT', 'ENOSPC'],
  ] as const)('with %s: the error names the device', (_, plan, code, errno) => {
    const board = new IrqBoard(plan);
    expect(() => board.irq({ index: 5 }, true)).toThrow(expect.objectContaining({ code, errno, device: 'd0' }));
    expect(board.told).toEqual([]);
    expect(board.reactor.epollFd).toBeUndefined();
  });
});

describe('waiting for a signal', () => {
  it('that cannot be armed fails for this device, and can be tried again', () => {
    const board = new IrqBoard({ epollControl: [undefined, 'ENOMEM'] });
    const irq = board.irq({ index: 1 });
    const errors: unknown[] = [];
    irq.next().subscribe({ error: (error: unknown) => errors.push(error) });
    expect(errors).toEqual([expect.objectContaining({ code: 'VFIO_E_LIMIT', errno: 'ENOMEM', device: 'd0' })]);
    const again = irq.next().subscribe({ error: (error: unknown) => errors.push(error) });
    expect(errors).toHaveLength(1);
    again.unsubscribe();
    now(irq);
  });

  it('that cannot be read fails for this device', async () => {
    const board = new IrqBoard({ readCount: ['EIO'] });
    const irq = board.irq({ index: 1 });
    const failed = new Promise((resolve) => {
      irq.next().subscribe({ next: resolve, error: resolve });
    });
    // Without an ack eventfd an ack goes into the trigger: as good as a signal.
    irq.ack(1n).subscribe();
    expect(await failed).toMatchObject({ code: 'VFIO_E_IO', errno: 'EIO', device: 'd0' });
    now(irq);
  });
});
