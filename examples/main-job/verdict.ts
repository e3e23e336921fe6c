import type { Answer } from './profiles.js';
import { judgeMoves, judgeWaits } from './trace-order.js';
import type { Deliveries, GuestDeliveries, Held, TraceLine } from './witness.js';

/** All that a verdict is made of. But for what the guests claim to have sent, and what broke, it comes from the device. */
export interface Evidence {
  /** How this driver is answered. */
  readonly answer: Answer;
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
    ...evidence.guests.map((guest) => keptGoing(guest, deliveries.guests[guest.id] ?? nothing, evidence.answer)),
    check('nothing came by a revoked path', deliveries.stale === 0, `${deliveries.stale} stale writes`),
    ...answers(evidence),
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
function keptGoing({ name }: GuestClaim, { byMap, byTrap }: GuestDeliveries, answer: Answer): Check {
  const ways = `${byMap} mapped, ${byTrap} trapped`;
  // Before it is given its first mapping a guest writes trapped.
  if (answer === 'nothing') return check(`the ${name} had its mapping`, byMap > 0, ways);
  return check(`the ${name} went on without its mapping`, byMap > 0 && byTrap > 0, ways);
}

/** What the driver's trace must show of its demands and of the answers to them. */
function answers(evidence: Evidence): readonly Check[] {
  switch (evidence.answer) {
    case 'value':
      return [waitsInPlace('every ack came in its place', evidence), sumsAgree(evidence)];
    case 'bare':
      return [waitsInPlace('every ack came in its place', evidence)];
    case 'watched':
      return [waitsInPlace('every wait ended when the areas were gone', evidence)];
    case 'unasked':
    case 'nothing':
      return [moved(evidence)];
  }
}

function waitsInPlace(what: string, { answer, trace, traceMissed }: Evidence): Check {
  const { waits, faults } = judgeWaits(trace, answer);
  const steps = answer === 'watched' ? 'signal, query, munmap, release' : 'signal, query, munmap, ack, release';
  return ordered(what, [...(waits === 0 ? ['the driver never waited for an ack'] : []), ...faults], traceMissed, `${waits} waits, each: ${steps}`);
}

/** Without an irq the driver judges each write of device_state by what is mapped. */
function moved({ answer, trace, traceMissed }: Evidence): Check {
  const { writes, moves, faults } = judgeMoves(trace);
  const wanted = answer === 'unasked';
  const wrong = [
    ...(writes === 0 ? ['device_state was never written'] : []),
    ...(wanted && moves === 0 ? ['nothing was ever unmapped'] : []),
    ...(!wanted && moves > 0 ? [`${moves} areas were unmapped`] : []),
    ...faults,
  ];
  return ordered(wanted ? 'the user moved before each write' : 'no mapping ever moved', wrong, traceMissed, `${writes} writes of device_state, ${moves} areas unmapped`);
}

function ordered(what: string, wrong: readonly string[], traceMissed: number, good: string): Check {
  const problems = [
    ...(traceMissed > 0 ? [`${traceMissed} events of the trace are missing`] : []),
    ...wrong.slice(0, named),
    ...(wrong.length > named ? [`and ${wrong.length - named} more`] : []),
  ];
  return check(what, problems.length === 0, problems.length === 0 ? good : problems.join('; '));
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
