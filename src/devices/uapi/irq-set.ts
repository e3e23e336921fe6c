import { VfioError } from '../../errors.js';
import { requireU32, viewOf, type Origin } from './bytes.js';
import {
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
} from './constants.js';

/** struct vfio_irq_set; the payload begins at `data`. */
export const irqSetLayout = { argsz: 0, flags: 4, index: 8, start: 12, count: 16, data: 20, sizeof: 20 } as const;

/** An eventfd travels as an __s32, a bool as a __u8. */
const fdBytes = 4;

/** MSI-X has at most 2,048 vectors; above this a call is a mistake. */
export const maxVectors = 65_536;

const actions = {
  mask: VFIO_IRQ_SET_ACTION_MASK,
  unmask: VFIO_IRQ_SET_ACTION_UNMASK,
  trigger: VFIO_IRQ_SET_ACTION_TRIGGER,
} as const;

/** TRIGGER with eventfds is kernel to user, MASK and UNMASK with eventfds user to kernel. */
export type IrqAction = keyof typeof actions;

/** What VFIO_DEVICE_SET_IRQS shall do with vectors from `start` on (0 when left out). `Fd`: how a port names an eventfd. */
export type IrqSet<Fd = number> = {
  readonly index: number;
  readonly action: IrqAction;
  readonly start?: number;
} & (
  | {
      /** The action itself, on `count` vectors. TRIGGER with count 0 disables the whole index. */
      readonly data: 'none';
      readonly count: number;
    }
  | {
      /** The action on those vectors whose entry is true. */
      readonly data: 'bool';
      readonly vectors: readonly boolean[];
    }
  | {
      /** Registers one eventfd for each vector; -1 takes one away. */
      readonly data: 'eventfd';
      readonly fds: readonly Fd[];
    }
);

/** The kinds of data that go with an action. */
export type IrqData = IrqSet['data'];

/** Without eventfds: done at once, and nothing stays registered. */
export type IrqAct = Exclude<IrqSet, { readonly data: 'eventfd' }>;

/** The vectors that a call is about. */
export function vectorsOf(set: IrqSet<unknown>): { readonly start: number; readonly count: number } {
  const { start = 0 } = set;
  switch (set.data) {
    case 'none':
      return { start, count: set.count };
    case 'bool':
      return { start, count: set.vectors.length };
    case 'eventfd':
      return { start, count: set.fds.length };
  }
}

const operation = 'VFIO_DEVICE_SET_IRQS';

/**
 * Writes the argument of VFIO_DEVICE_SET_IRQS. Every data goes with every action here; which pairs an irq takes is
 * for `irqRefusal` to say. Throws VFIO_E_RANGE for what no driver could take.
 * Source: struct vfio_irq_set in <linux/vfio.h>.
 */
export function encodeIrqSet(set: IrqSet, device?: string): Uint8Array {
  const origin = { operation: `${operation}(${set.index})`, device };
  const { start, count } = vectorsOf(set);
  requireU32(set.index, 'an irq index', origin);
  requireU32(start, 'the first vector', origin);
  const { flag, payload } = encodePayload(set, origin);
  requireU32(count, 'the number of vectors', origin);
  if (count > maxVectors) throw new VfioError('VFIO_E_RANGE', `${count} vectors in one call, at most ${maxVectors}`, origin);
  if (count === 0 && set.data !== 'none') {
    throw new VfioError('VFIO_E_RANGE', "no vectors given: to disable an irq use data 'none' with count 0", origin);
  }
  requireU32(start + count, 'the last vector', origin);

  const bytes = new Uint8Array(irqSetLayout.sizeof + payload.length);
  const view = viewOf(bytes);
  view.setUint32(irqSetLayout.argsz, bytes.length, true);
  view.setUint32(irqSetLayout.flags, flag | actions[set.action], true);
  view.setUint32(irqSetLayout.index, set.index, true);
  view.setUint32(irqSetLayout.start, start, true);
  view.setUint32(irqSetLayout.count, count, true);
  bytes.set(payload, irqSetLayout.data);
  return bytes;
}

function encodePayload(set: IrqSet, origin: Origin): { flag: number; payload: Uint8Array } {
  switch (set.data) {
    case 'none':
      return { flag: VFIO_IRQ_SET_DATA_NONE, payload: new Uint8Array(0) };
    case 'bool':
      return { flag: VFIO_IRQ_SET_DATA_BOOL, payload: Uint8Array.from(set.vectors, Number) };
    case 'eventfd':
      return { flag: VFIO_IRQ_SET_DATA_EVENTFD, payload: encodeFds(set.fds, origin) };
  }
}

function encodeFds(fds: readonly number[], origin: Origin): Uint8Array {
  const payload = new Uint8Array(fds.length * fdBytes);
  const view = viewOf(payload);
  fds.forEach((fd, i) => {
    if (!Number.isInteger(fd) || fd < -1 || fd > 0x7fff_ffff) {
      throw new VfioError('VFIO_E_RANGE', `${fd} is neither a file descriptor nor -1`, origin);
    }
    view.setInt32(i * fdBytes, fd, true);
  });
  return payload;
}

/** Disables an irq index whole, its ack eventfds included: DATA_NONE | ACTION_TRIGGER, count 0. */
export function encodeIrqDisable(index: number, device?: string): Uint8Array {
  return encodeIrqSet({ index, action: 'trigger', data: 'none', count: 0 }, device);
}
