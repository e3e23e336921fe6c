import { createHash } from 'node:crypto';
import type { Spot } from './acting.js';

/** What a process is to do that is one side of a migration. */
export interface SideOrder {
  readonly side: 'source' | 'destination';
  /** Whether it ends what a process before it has left. */
  readonly resolving: boolean;
  readonly address: string;
  readonly journal: string;
  readonly act?: Spot & { readonly what: 'die' | 'cut' };
}

/** What the source has, and the destination shall have. */
export const sourceState = Uint8Array.from({ length: 0x1000 }, (_, n) => (n * 7 + 3) & 0xff);

export function digestOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
