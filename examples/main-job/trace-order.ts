import type { Answer } from './profiles.js';
import type { TraceLine } from './witness.js';

/** What the driver's trace says about its waits. */
export interface WaitsJudged {
  /** How often a write of device_state waited for an ack. */
  readonly waits: number;
  /** What was out of its place, in words. */
  readonly faults: readonly string[];
}

/** A wait that goes on. */
interface OpenWait {
  readonly seq: number;
  readonly target: bigint;
  readonly queried: Set<string>;
  readonly unmapped: Set<string>;
  /** The regions that lost something: their layout changed right before the signal. */
  readonly regions: readonly string[];
  acked: boolean;
}

/**
 * Judges every wait in a complete trace: after its signal each region that lost an area was asked for its layout, then
 * unmapped, then the ack came that covers the wait, then the driver went on. A driver that is not written to (`watched`)
 * went on when the last of them was unmapped.
 */
export function judgeWaits(trace: readonly TraceLine[], answer: Answer = 'value'): WaitsJudged {
  const faults: string[] = [];
  let waits = 0;
  let ackedSum = 0n;
  let changed: string[] = [];
  let signalled: readonly string[] = [];
  let wait: OpenWait | undefined;
  const fault = (what: string): void => void faults.push(`wait at event ${wait?.seq ?? 0}: ${what}`);

  for (const { seq, event, fields } of trace) {
    const region = fields['region'] ?? '';
    switch (event) {
      case 'register':
        // A registration starts its sums anew.
        if (fields['role'] === 'trigger') ackedSum = 0n;
        break;
      case 'layout':
        changed.push(region);
        break;
      case 'signal':
        signalled = changed;
        changed = [];
        break;
      case 'wait':
        waits += 1;
        wait = { seq, target: BigInt(fields['target'] ?? 0), queried: new Set(), unmapped: new Set(), regions: signalled, acked: false };
        break;
      case 'query':
        if (fields['ret'] === undefined && wait?.acked === false) wait.queried.add(region);
        break;
      case 'munmap':
        if (wait === undefined) break;
        if (wait.acked) fault(`region ${region} was unmapped after the ack`);
        else if (!wait.queried.has(region)) fault(`region ${region} was unmapped before it was queried`);
        else wait.unmapped.add(region);
        break;
      case 'ack':
        if (answer === 'watched') {
          faults.push(`event ${seq}: an ack, and nobody waits for one`);
          break;
        }
        ackedSum += BigInt(fields['value'] ?? 0);
        if (wait === undefined || wait.acked) break;
        // A bare ack carries no number. The kernel driver says of each whether its signal had been read (1).
        if (answer === 'value' ? ackedSum < wait.target : fields['read'] === '0') break;
        judgeServed(wait, 'the ack came', fault);
        wait.acked = true;
        break;
      case 'release':
        if (wait === undefined) break;
        if (fields['ret'] !== '0') fault(`it ended with ${fields['ret'] ?? '?'}`);
        if (answer === 'watched') judgeServed(wait, 'it ended', fault);
        else if (!wait.acked) fault('it ended without an ack');
        wait = undefined;
        break;
    }
  }
  if (wait !== undefined) fault('it never ended');
  return { waits, faults };
}

function judgeServed({ regions, queried, unmapped }: OpenWait, what: string, fault: (text: string) => void): void {
  for (const lost of regions) {
    if (!queried.has(lost)) fault(`${what} before region ${lost} was queried`);
    else if (!unmapped.has(lost)) fault(`${what} before region ${lost} was unmapped`);
  }
}

/** What a trace says of a driver that asks for nothing. */
export interface MovesJudged {
  /** Writes of device_state. */
  readonly writes: number;
  /** Areas that were unmapped before the last of them. */
  readonly moves: number;
  readonly faults: readonly string[];
}

/** A driver that does not ask refuses a write of device_state while something conflicts: none may have been refused. */
export function judgeMoves(trace: readonly TraceLine[]): MovesJudged {
  const faults: string[] = [];
  let writes = 0;
  let moves = 0;
  let unmapped = 0;
  for (const { seq, event, fields } of trace) {
    if (event === 'munmap') unmapped += 1;
    if (event !== 'state') continue;
    writes += 1;
    moves = unmapped;
    if (fields['ret'] !== '0') faults.push(`event ${seq}: the write of ${fields['to'] ?? '?'} ended with ${fields['ret'] ?? '?'}`);
  }
  return { writes, moves, faults };
}
