import type { GuestPlan } from './mailbox.js';

/** What the guest's thread is started with. */
export interface WorkerPlan extends GuestPlan {
  readonly turnMs: number;
  /** Sabotage: after it has let go it writes once more by the old view. */
  readonly stale: boolean;
}

/** Memory that the thread can make a view of: shared, or an address in this process. It begins at `offset` of the region. */
export type SharedPiece = { readonly offset: number; readonly size: number } & (
  | { readonly memory: ArrayBufferLike; readonly byteOffset: number; readonly address?: undefined }
  | { readonly address: bigint }
);

export type ToWorker =
  | { readonly kind: 'regain'; readonly pieces: readonly SharedPiece[] }
  | { readonly kind: 'release' }
  /** The trapped write that it asked for was made. */
  | { readonly kind: 'trapped' }
  | { readonly kind: 'stop' };

export type FromWorker =
  | { readonly kind: 'ready' }
  | { readonly kind: 'regained' }
  /** It touches the mapping no more. */
  | { readonly kind: 'released' }
  /** Please write this word by a trapped access; one at a time. */
  | { readonly kind: 'trap'; readonly word: bigint }
  | { readonly kind: 'progress'; readonly sent: number }
  /** Its last message: no number is on its way. */
  | { readonly kind: 'stopped'; readonly sent: number };
