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
 * unmapped, then the ack came that covers the wait, then the driver went on.
 */
export function judgeWaits(trace: readonly TraceLine[]): WaitsJudged {
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
        ackedSum += BigInt(fields['value'] ?? 0);
        if (wait === undefined || wait.acked || ackedSum < wait.target) break;
        for (const lost of wait.regions) {
          if (!wait.queried.has(lost)) fault(`the ack came before region ${lost} was queried`);
          else if (!wait.unmapped.has(lost)) fault(`the ack came before region ${lost} was unmapped`);
        }
        wait.acked = true;
        break;
      case 'release':
        if (wait === undefined) break;
        if (fields['ret'] !== '0') fault(`it ended with ${fields['ret'] ?? '?'}`);
        if (!wait.acked) fault('it ended without an ack');
        wait = undefined;
        break;
    }
  }
  if (wait !== undefined) fault('it never ended');
  return { waits, faults };
}
