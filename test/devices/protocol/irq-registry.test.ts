import { describe, expect, it } from 'vitest';
import { IrqRegistry, type VectorEventfds } from '../../../src/devices/protocol/irq-registry.js';
import type { IrqSet } from '../../../src/devices/uapi/irq-set.js';
import { errnoError } from '../../../src/errors.js';
import { codeOf } from '../../support/devices.js';

/** A PCI device that tells what it is told: INTx, 4 MSI vectors at once, 16 MSI-X vectors that may be added, a maskable irq 6. */
class Board {
  readonly told: string[] = [];
  readonly disposed: string[] = [];
  /** Fails the nth call of SET_IRQS, from 1. */
  failing: number | undefined;
  /** Fails the nth eventfd, from 1. */
  noEventfd = Infinity;
  #made = 0;
  #calls = 0;

  readonly irqs = new IrqRegistry<string, VectorEventfds<string>>({
    name: 'd0',
    none: '-',
    pci: () => true,
    info: (index) => {
      const [count = 0, flags = 0] = new Map([[0, [1, 7]], [1, [4, 9]], [2, [16, 1]], [6, [4, 3]]]).get(index) ?? [];
      return { index, flags, count, eventfd: true, maskable: (flags & 2) !== 0, automasked: (flags & 4) !== 0, noResize: (flags & 8) !== 0 };
    },
    make: (index, vector, withAck) => {
      this.#made += 1;
      if (this.#made >= this.noEventfd) throw errnoError('EMFILE', 'eventfd', 'd0');
      return { vector, triggerFd: `t${vector}`, ackFd: withAck ? `a${vector}` : undefined, dispose: () => { this.disposed.push(`${index}.${vector}`); } };
    },
    set: (set) => {
      this.told.push(text(set));
      this.#calls += 1;
      if (this.#calls === this.failing) throw errnoError('ENOMEM', 'SET_IRQS', 'd0');
    },
  });

  open(index: number, vectors: readonly number[], withAck = false): readonly string[] {
    return this.irqs.register(index, vectors, withAck).map(({ triggerFd }) => triggerFd);
  }

  /** What SET_IRQS was told since the last look. */
  get news(): readonly string[] {
    return this.told.splice(0);
  }
}

function text(set: IrqSet<string>): string {
  const what = set.data === 'eventfd' ? set.fds.join(' ') : set.data === 'bool' ? set.vectors.join(' ') : `x${set.count}`;
  return `${set.index} ${set.action} ${set.start ?? 0}: ${what}`;
}

describe('vectors of one index', () => {
  it('that turn it on are one call, with gaps, because it decides how many are enabled', () => {
    const board = new Board();
    expect(board.open(1, [3, 0, 1])).toEqual(['t3', 't0', 't1']);
    expect(board.news).toEqual(['1 trigger 0: t0 t1 - t3']);
    expect(board.open(1, [2])).toEqual(['t2']);
    expect(board.news).toEqual(['1 trigger 2: t2']);
  });

  it('that come later are a call for each run, so that nobody in a gap loses his eventfd', () => {
    const board = new Board();
    board.open(2, [1]);
    board.open(2, [0, 2, 3, 9]);
    expect(board.news).toEqual(['2 trigger 1: t1', '2 trigger 0: t0', '2 trigger 2: t2 t3', '2 trigger 9: t9']);
  });

  it('that have ack eventfds get them after their triggers', () => {
    const board = new Board();
    board.open(6, [0, 2], true);
    expect(board.news).toEqual(['6 trigger 0: t0 - t2', '6 unmask 0: a0', '6 unmask 2: a2']);
  });

  it('go one by one, and the last with the whole index', () => {
    const board = new Board();
    board.open(6, [0, 2], true);
    board.told.length = 0;
    board.irqs.release(6, 2);
    expect(board.news).toEqual(['6 trigger 2: -', '6 unmask 2: -']);
    board.irqs.release(6, 2);
    board.irqs.release(6, 0);
    expect(board.news).toEqual(['6 trigger 0: x0']);
    expect(board.disposed).toEqual(['6.2', '6.0']);
    board.open(6, [3]);
    expect(board.news).toEqual(['6 trigger 3: t3']);
  });

  it('are acted upon while they are enabled', () => {
    const board = new Board();
    const act = { index: 6, action: 'mask', data: 'bool', start: 1, vectors: [true, false] } as const;
    expect(codeOf(() => board.irqs.act(act))).toBe('VFIO_E_RANGE');
    board.open(6, [2]);
    board.irqs.act(act);
    expect(board.news).toEqual(['6 trigger 2: t2', '6 mask 1: true false']);
    expect(codeOf(() => board.irqs.act({ index: 6, action: 'trigger', data: 'none', count: 0 }))).toBe('VFIO_E_RANGE');
    expect(codeOf(() => board.irqs.act({ index: 6, action: 'trigger', data: 'none', start: 3, count: 1 }))).toBe('VFIO_E_RANGE');
    expect(board.news).toEqual([]);
  });
});

describe('refused before anything is made or told', () => {
  it.each<[string, number, readonly number[], boolean, string]>([
    ['no vector', 1, [], false, 'VFIO_E_RANGE'],
    ['one twice', 1, [0, 0], false, 'VFIO_E_RANGE'],
    ['half a one', 1, [0.5], false, 'VFIO_E_RANGE'],
    ['a negative one', 1, [-1], false, 'VFIO_E_RANGE'],
    ['more than one call can carry', 2, [70_000], false, 'VFIO_E_RANGE'],
    ['one beyond the last', 1, [0, 4], false, 'VFIO_E_NO_IRQ'],
    ['an index without vectors', 3, [0], false, 'VFIO_E_NO_IRQ'],
    ['an ack eventfd for what cannot be unmasked', 2, [0], true, 'VFIO_E_UNSUPPORTED'],
    ['MSI-X beside MSI', 2, [0], false, 'VFIO_E_BUSY'],
    ['INTx beside MSI', 0, [0], false, 'VFIO_E_BUSY'],
    ['a vector in use', 1, [1, 0], false, 'VFIO_E_BUSY'],
    ['a vector beyond those enabled', 1, [1, 2], false, 'VFIO_E_BUSY'],
  ])('%s', (_, index, vectors, withAck, code) => {
    const board = new Board();
    board.noEventfd = 2;
    if (code === 'VFIO_E_BUSY') board.open(1, [0]);
    board.told.length = 0;
    expect(codeOf(() => board.open(index, vectors, withAck))).toBe(code);
    expect([board.news, board.disposed]).toEqual([[], []]);
  });
});

describe('all or none', () => {
  it('where an eventfd is missing nothing is told', () => {
    const board = new Board();
    board.noEventfd = 3;
    expect(codeOf(() => board.open(2, [0, 1, 2]))).toBe('VFIO_E_LIMIT');
    expect([board.news, board.disposed, board.irqs.registered]).toEqual([[], ['2.0', '2.1'], []]);
  });

  it('where the first call fails nothing was registered', () => {
    const board = new Board();
    board.failing = 1;
    expect(codeOf(() => board.open(2, [0, 1]))).toBe('VFIO_E_LIMIT');
    expect([board.news, board.disposed, board.irqs.registered]).toEqual([['2 trigger 0: t0 t1'], ['2.0', '2.1'], []]);
    expect(board.open(0, [0])).toEqual(['t0']);
  });

  it('where a later one fails, what was registered goes again, and the others stay', () => {
    const board = new Board();
    board.open(2, [1]);
    board.failing = 3;
    expect(codeOf(() => board.open(2, [0, 2, 3]))).toBe('VFIO_E_LIMIT');
    expect(board.news).toEqual(['2 trigger 1: t1', '2 trigger 0: t0', '2 trigger 2: t2 t3', '2 trigger 0: -']);
    expect(board.irqs.registered.map(({ vector }) => vector)).toEqual([1]);
  });

  it('where the ack eventfds fail the index goes off, if nobody else is there', () => {
    const board = new Board();
    board.failing = 2;
    expect(codeOf(() => board.open(6, [0, 1], true))).toBe('VFIO_E_LIMIT');
    expect(board.news).toEqual(['6 trigger 0: t0 t1', '6 unmask 0: a0 a1', '6 trigger 0: x0']);
  });

  it('a release that the device refuses closes the eventfds all the same, and says so', () => {
    const board = new Board();
    board.open(6, [0], true);
    board.failing = 3;
    expect(codeOf(() => board.irqs.release(6, 0))).toBe('VFIO_E_LIMIT');
    expect([board.disposed, board.irqs.registered]).toEqual([['6.0'], []]);
  });
});
