import { protocolError, requireU32 } from '../../uapi/bytes.js';
import {
  VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_DATA_BOOL, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
} from '../../uapi/constants.js';
import { irqSetLayout, maxVectors, type IrqAction } from '../../uapi/irq-set.js';
import { dataAfter, payloadView, struct } from './fields.js';

/**
 * DEVICE_SET_IRQS: struct vfio_irq_set, whose eventfds travel beside it. With eventfds there are as many as vectors, or none: that
 * takes away what those vectors had.
 */
export type UserIrqSet = {
  readonly index: number;
  readonly action: IrqAction;
  readonly start: number;
  readonly count: number;
} & ({ readonly data: 'none' | 'eventfd' } | { readonly data: 'bool'; readonly vectors: readonly boolean[] });

const actions = { mask: VFIO_IRQ_SET_ACTION_MASK, unmask: VFIO_IRQ_SET_ACTION_UNMASK, trigger: VFIO_IRQ_SET_ACTION_TRIGGER } as const;
const kinds = { none: VFIO_IRQ_SET_DATA_NONE, bool: VFIO_IRQ_SET_DATA_BOOL, eventfd: VFIO_IRQ_SET_DATA_EVENTFD } as const;
const actionMask = VFIO_IRQ_SET_ACTION_MASK | VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_ACTION_TRIGGER;

const origin = { operation: 'vfio-user DEVICE_SET_IRQS' };

export function encodeUserIrqSet(set: UserIrqSet): Uint8Array {
  requireU32(set.index, 'an irq index', origin);
  requireU32(set.start, 'the first vector', origin);
  requireU32(set.count, 'the number of vectors', origin);
  const { bytes, view } = struct(irqSetLayout.sizeof, set.data === 'bool' ? Uint8Array.from(set.vectors, Number) : undefined);
  view.setUint32(irqSetLayout.argsz, bytes.length, true);
  view.setUint32(irqSetLayout.flags, kinds[set.data] | actions[set.action], true);
  view.setUint32(irqSetLayout.index, set.index, true);
  view.setUint32(irqSetLayout.start, set.start, true);
  view.setUint32(irqSetLayout.count, set.count, true);
  return bytes;
}

/** Reads a command. Throws VFIO_E_PROTOCOL for anything but one action, one kind of data, and so many vectors and eventfds as it says. */
export function readUserIrqSet(payload: Uint8Array, fds: number): UserIrqSet {
  const view = payloadView(payload, irqSetLayout.sizeof, origin);
  const flags = view.getUint32(irqSetLayout.flags, true);
  const action = (Object.keys(actions) as IrqAction[]).find((name) => actions[name] === (flags & actionMask));
  const data = (Object.keys(kinds) as (keyof typeof kinds)[]).find((name) => kinds[name] === (flags & ~actionMask));
  if (action === undefined || data === undefined) throw protocolError(origin, irqSetLayout.flags, `flags 0x${flags.toString(16)} are not one action with one kind of data`);
  const count = view.getUint32(irqSetLayout.count, true);
  const start = view.getUint32(irqSetLayout.start, true);
  if (count > maxVectors || start > maxVectors) throw protocolError(origin, irqSetLayout.count, `${count} vectors from ${start} on, at most ${maxVectors} are taken`);
  if (count === 0 && !(action === 'trigger' && data === 'none' && start === 0)) throw protocolError(origin, irqSetLayout.count, 'no vectors');
  if (fds > 0 && (data !== 'eventfd' || fds !== count)) throw protocolError(origin, irqSetLayout.count, `${fds} eventfds for ${data === 'eventfd' ? `${count} vectors` : 'a call that takes none'}`);
  const head = { index: view.getUint32(irqSetLayout.index, true), action, start, count };
  if (data !== 'bool') return { ...head, data };
  const vectors = dataAfter(payload, irqSetLayout.sizeof, count, origin);
  return { ...head, data, vectors: [...vectors].map((one) => one !== 0) };
}

