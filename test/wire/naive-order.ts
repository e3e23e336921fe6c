import type { DestinationAct, DestinationEvent, DestinationPhase } from '../../src/wire/handover-destination.js';
import type { SourceAct, SourceEvent, SourcePhase } from '../../src/wire/handover-source.js';

/**
 * The order of a migration without a commit, in place of both machines: the destination runs as soon as it can, and says so; the
 * source releases on hearing that, and goes on by itself where it hears that the other side is gone.
 */
export function sourceStep(phase: SourcePhase, event: SourceEvent): { readonly phase: SourcePhase; readonly acts: readonly SourceAct[] } {
  if (phase === 'moving' && event === 'prepared') return { phase: 'moved', acts: [{ act: 'release' }] };
  return phase === 'moving' && (event === 'lost' || event === 'failed') ? { phase: 'kept', acts: [{ act: 'run' }] } : { phase, acts: [] };
}

export function destinationStep(phase: DestinationPhase, event: DestinationEvent): { readonly phase: DestinationPhase; readonly acts: readonly DestinationAct[] } {
  if (phase === 'loading' && event === 'loaded') return { phase: 'running', acts: [{ act: 'run' }] };
  if (phase === 'running' && event === 'ran') return { phase: 'ran', acts: [{ act: 'send', message: 'prepared' }, { act: 'send', message: 'confirmed' }] };
  return phase === 'loading' && (event === 'lost' || event === 'failed') ? { phase: 'discarded', acts: [{ act: 'discard' }] } : { phase, acts: [] };
}

/** It knows nothing of what was before. */
export function sourceAfterRestart(): SourcePhase {
  return 'kept';
}

export function destinationAfterRestart(): DestinationPhase {
  return 'discarded';
}
