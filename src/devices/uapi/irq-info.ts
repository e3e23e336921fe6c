import { initialAnswerBytes, maxAnswerBytes, withArgsz } from './argsz.js';
import { answerView, protocolError, requireU32, viewOf } from './bytes.js';
import { readChain } from './capabilities.js';
import {
  VFIO_IRQ_INFO_AUTOMASKED,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  VFIO_IRQ_INFO_NORESIZE,
  VFIO_REGION_REMAP_IRQ_INFO_CAPS,
} from './constants.js';
import { readRemapCapability, type RemapCapability } from './remap-capability.js';

export type { RemapCapability };

/** struct vfio_irq_info, as mainline has it. */
export const irqInfoLayout = { argsz: 0, flags: 4, index: 8, count: 12, sizeof: 16 } as const;

/** The same with what a capability chain needs: struct vfio_region_remap_irq_info of `vfio_region_remap.h`. */
export const irqInfoChainLayout = { ...irqInfoLayout, cap_offset: 16, sizeof: 20 } as const;

/** struct vfio_irq_info and its chain, read. */
export interface IrqInfo {
  readonly index: number;
  /** VFIO_IRQ_INFO_*. */
  readonly flags: number;
  /** Vectors; 0 where the device has no irq here. */
  readonly count: number;
  readonly eventfd: boolean;
  readonly maskable: boolean;
  /** After one signal nothing more until it is unmasked. */
  readonly automasked: boolean;
  /** The number of enabled vectors changes only by disabling the whole index. */
  readonly noResize: boolean;
  /** By this irq the vendor driver demands remaps. */
  readonly remap?: RemapCapability;
}

const operation = 'VFIO_DEVICE_GET_IRQ_INFO';

/**
 * Reads an answer to VFIO_DEVICE_GET_IRQ_INFO for the irq `index`, with or without a chain. Unknown capabilities and
 * irq types are left alone, so that a driver that knows more still works.
 * Throws VFIO_E_PROTOCOL where the answer is cut off, contradicts itself or is another irq's.
 */
export function readIrqInfo(bytes: Uint8Array, index: number, device?: string): IrqInfo {
  const origin = { operation: `${operation}(${index})`, device };
  const view = answerView(bytes, irqInfoLayout.sizeof, origin);
  const answered = view.getUint32(irqInfoLayout.index, true);
  if (answered !== index) throw protocolError(origin, irqInfoLayout.index, `irq ${answered} answered`);

  const flags = view.getUint32(irqInfoLayout.flags, true);
  const count = view.getUint32(irqInfoLayout.count, true);
  const eventfd = (flags & VFIO_IRQ_INFO_EVENTFD) !== 0;
  const hasChain = (flags & VFIO_REGION_REMAP_IRQ_INFO_CAPS) !== 0;
  const capabilities = readChain(view, hasChain, irqInfoChainLayout.cap_offset, irqInfoChainLayout.sizeof, origin);
  const remap = readRemapCapability(capabilities, origin);
  if (remap !== undefined && (!eventfd || count === 0)) {
    throw protocolError(origin, irqInfoLayout.flags, 'a remap irq that cannot be registered: it takes no eventfd or has no vector');
  }
  return {
    index,
    flags,
    count,
    eventfd,
    maskable: (flags & VFIO_IRQ_INFO_MASKABLE) !== 0,
    automasked: (flags & VFIO_IRQ_INFO_AUTOMASKED) !== 0,
    noResize: (flags & VFIO_IRQ_INFO_NORESIZE) !== 0,
    ...(remap === undefined ? {} : { remap }),
  };
}

/** Asks and reads. `call` does VFIO_DEVICE_GET_IRQ_INFO on the buffer, which names the irq already. */
export function queryIrqInfo(index: number, call: (buffer: Uint8Array) => void, device?: string): IrqInfo {
  requireU32(index, 'an irq index', { operation, device });
  const ask = (buffer: Uint8Array): void => {
    viewOf(buffer).setUint32(irqInfoLayout.index, index, true);
    call(buffer);
  };
  return readIrqInfo(withArgsz(initialAnswerBytes, maxAnswerBytes, `${operation}(${index})`, ask, device), index, device);
}
