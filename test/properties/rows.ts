import type { SoftwareRemap } from '../../src/devices/software/remap-shape.js';
import type { RemapWishes } from '../../src/devices/protocol/negotiation.js';

/** One legal row of the protocol: how the driver signals, and how the user acks. */
export interface Row {
  readonly name: string;
  /** False: layouts never change. */
  readonly remap: SoftwareRemap | false;
  readonly wishes: RemapWishes;
}

/** Section 4 of the protocol: every legal combination. */
export const rows = {
  'rfc-v4, write-zero': { name: 'rfc-v4, write-zero', remap: { profile: 'rfc-v4' }, wishes: { rfcAck: 'write-zero' } },
  'rfc-v4, write-one': { name: 'rfc-v4, write-one', remap: { profile: 'rfc-v4' }, wishes: { rfcAck: 'write-one' } },
  'doorbell, value': { name: 'doorbell, value', remap: { signals: 'doorbell', ack: 'value' }, wishes: {} },
  'doorbell, none': { name: 'doorbell, none', remap: { signals: 'doorbell', ack: 'none' }, wishes: {} },
  'bitmap, value': { name: 'bitmap, value', remap: { signals: 'bitmap', ack: 'value' }, wishes: {} },
  'bitmap, none': { name: 'bitmap, none', remap: { signals: 'bitmap', ack: 'none' }, wishes: {} },
  'saving-layout': { name: 'saving-layout', remap: { profile: 'saving-layout' }, wishes: {} },
  static: { name: 'static', remap: false, wishes: {} },
} as const satisfies Readonly<Record<string, Row>>;

export type RowName = keyof typeof rows;

/** Where a row has an irq: else nobody signals, and nothing registers. */
export function hasIrq({ remap }: Row): boolean {
  return remap !== false && remap.profile !== 'saving-layout';
}

/** Only the present protocol knows pages: bits of rfc-v4 are BARs. */
export function hasPages({ remap }: Row): boolean {
  return remap !== false && (remap.profile ?? 'region-remap') === 'region-remap';
}

export type AckKind = 'value' | 'bare' | 'none';

/** What an ack says: a sum, only that there is one, or there is none. */
export function ackKind(row: Row): AckKind {
  if (!hasIrq(row) || row.remap === false) return 'none';
  return row.remap.profile === 'rfc-v4' ? 'bare' : (row.remap.ack ?? 'value');
}

/** Whether an add names regions. */
export function addsBits({ remap }: Row): boolean {
  return remap !== false && (remap.profile === 'rfc-v4' || remap.signals === 'bitmap');
}
