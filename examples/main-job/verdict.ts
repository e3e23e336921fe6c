import { judgeWaits } from './trace-order.js';
import type { Deliveries, GuestDeliveries, Held, TraceLine } from './witness.js';

/** All that a verdict is made of. But for what the guests claim to have sent, and what broke, it comes from the device. */
export interface Evidence {
  readonly guests: readonly GuestClaim[];
  readonly deliveries: Deliveries;
  readonly trace: readonly TraceLine[];
  /** Events that the driver dropped from its trace before they could be read. */
  readonly traceMissed: number;
  /** Before the irq was disabled. */
  readonly sums: { readonly sent: bigint; readonly acked: bigint };
  readonly violations: number;
  /** After the device was closed. */
  readonly held: Held;
  /** What failed on this side. */
  readonly failures: readonly string[];
}

/** Guest `id` says that it sent the numbers 1 to `sent`. */
export interface GuestClaim {
  readonly id: number;
  readonly name: string;
  readonly sent: number;
}

/** One thing that must be true; `detail` says what is. */
export interface Check {
  readonly what: string;
  readonly ok: boolean;
  readonly detail: string;
}

export interface Verdict {
  readonly ok: boolean;
  readonly checks: readonly Check[];
}

const nothing: GuestDeliveries = { received: 0, duplicates: 0, missing: 0, byMap: 0, byTrap: 0 };

/** How many faults are written out. */
const named = 3;

export function judge(evidence: Evidence): Verdict {
  const { deliveries, failures } = evidence;
  const checks = [
    ...evidence.guests.map((guest) => arrivedOnce(guest, deliveries.guests[guest.id] ?? nothing)),
    ...evidence.guests.map((guest) => keptGoing(guest, deliveries.guests[guest.id] ?? nothing)),
    check('nothing came by a revoked path', deliveries.stale === 0, `${deliveries.stale} stale writes`),
    acksInPlace(evidence),
    sumsAgree(evidence),
    check('the user broke no rule', evidence.violations === 0, `${evidence.violations} violations`),
    nothingHeld(evidence.held),
    check('nothing failed on the way', failures.length === 0, failures.length === 0 ? 'no error' : failures.join('; ')),
  ];
  return { ok: checks.every(({ ok }) => ok), checks };
}

function arrivedOnce({ name, sent }: GuestClaim, { received, duplicates, missing }: GuestDeliveries): Check {
  const ok = sent > 0 && received === sent && duplicates === 0 && missing === 0;
  return check(`every number of the ${name} arrived once`, ok, `${sent} sent, ${received} received, ${duplicates} twice, ${missing} missing`);
}

/** A guest that waits out a revocation would lose nothing either: it must have gone on by the other way. */
function keptGoing({ name }: GuestClaim, { byMap, byTrap }: GuestDeliveries): Check {
  return check(`the ${name} went on without its mapping`, byMap > 0 && byTrap > 0, `${byMap} mapped, ${byTrap} trapped`);
}

function acksInPlace({ trace, traceMissed }: Evidence): Check {
  const { waits, faults } = judgeWaits(trace);
  const problems = [
    ...(waits === 0 ? ['the driver never waited for an ack'] : []),
    ...(traceMissed > 0 ? [`${traceMissed} events of the trace are missing`] : []),
    ...faults.slice(0, named),
    ...(faults.length > named ? [`and ${faults.length - named} more`] : []),
  ];
  const detail = problems.length === 0 ? `${waits} waits, each: signal, query, munmap, ack, release` : problems.join('; ');
  return check('every ack came in its place', problems.length === 0, detail);
}

function sumsAgree({ sums }: Evidence): Check {
  return check('every signal was acked', sums.sent > 0n && sums.sent === sums.acked, `${sums.sent} signalled, ${sums.acked} acked`);
}

function nothingHeld({ opens, vmas, irqs, waiters }: Held): Check {
  return check('nothing is held after the close', opens + vmas + irqs + waiters === 0, `opens ${opens}, vmas ${vmas}, irqs ${irqs}, waiters ${waiters}`);
}

function check(what: string, ok: boolean, detail: string): Check {
  return { what, ok, detail };
}
