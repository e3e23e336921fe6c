import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { cellOf, insteads, type Cell, type PromiseName } from '../properties/contract/cells.js';
import { faults } from '../properties/contract/misbehaviours.js';
import { ackKind, addsBits, rows, type RowName } from '../properties/rows.js';
import { SampleMdev, vfioFds, type SampleProfile } from '../support/mdev.js';
import { askedBeforeAck, isWhole, revokedAndMapped, revokedIsUnmapped, waitsEnd, type TraceRow } from '../support/trace-judges.js';
import { play, type Answer, type Life } from './contract/play.js';
import { kernelSchedules, type KernelSchedule } from './contract/schedule.js';

/**
 * The cells of docs/contract.md on the real kernel: the sample driver with its switch thrown, lives of random acts, and
 * P2, P3, P5 and P6 by the driver's own trace and sysfs. test/properties/contract has the same cells in virtual time.
 */

/** Lives of a device for each cell. */
const runs = Number(process.env['VFIO_RX_KERNEL_RUNS'] ?? 20);
const seed = Number(process.env['VFIO_RX_SEED'] ?? Date.now() % 1_000_000);
/** Devices that live side by side. */
const side = 4;

const profiles: Readonly<Record<RowName, SampleProfile>> = {
  'rfc-v4, write-zero': 'rfc-v4',
  'rfc-v4, write-one': 'rfc-v4',
  'doorbell, value': 'doorbell-value',
  'doorbell, none': 'doorbell-none',
  'bitmap, value': 'bitmap-value',
  'bitmap, none': 'bitmap-none',
  'saving-layout': 'saving-layout',
  static: 'static',
};

/** A driver whose waits may be in vain has not long to wait for nothing. */
const inVainMs = 300;
/** It hears acks and no disable: time to be served, and an end. */
const deafMs = 2_000;
/** An emulated processor may take seconds to start a thread. */
const patientMs = 20_000;

function ackTimeoutMs({ falls }: Cell): number {
  if (falls.includes('driverTimesOut')) return inVainMs;
  return falls.includes('refusedLate') ? deafMs : patientMs;
}

function traceRow(name: RowName, pages: 1 | 2): TraceRow {
  const revoked = new Map(name === 'static' ? [] : [[0, { offset: 0, size: 0x1_0000 }], [1, { offset: 0x1_0000, size: 0x8000 }], ...(pages === 2 ? ([[64, { offset: 0, size: 0x2000 }]] as const) : [])]);
  return { declared: pages === 2 ? [0, 1, 64, 65] : [0, 1], bits: addsBits(rows[name]), ack: ackKind(rows[name]), revoked };
}

/** What a caller of `transition` may be told in the cell. */
function mayBeTold({ fault, falls }: Cell, { served, closing, code }: Answer): boolean {
  switch (code) {
    case 'done': return true;
    case 'VFIO_E_REFUSED':
    case 'VFIO_E_CANCELED': return !served || closing;
    case 'VFIO_E_CLOSED': return closing;
    case 'VFIO_E_IO': return fault.what === 'fail at an arc';
    case 'VFIO_E_ACK_TIMEOUT': return falls.includes('driverTimesOut') || falls.includes('refusedLate');
    case 'VFIO_E_DEADLINE':
    case 'VFIO_E_BUSY': return falls.includes('callerTimesOut');
    default: return false;
  }
}

interface Judged {
  readonly complaints: readonly string[];
  readonly tested: Readonly<Record<'P2' | 'P3' | 'P5' | 'P6', number>>;
}

function judged(name: RowName, cell: Cell, schedule: KernelSchedule, { trace, answers, closedAfterMs, held }: Life): Judged {
  const row = traceRow(name, schedule.pages);
  const fallen = new Set<PromiseName>(cell.falls.map((instead) => insteads[instead].of));
  const waits = waitsEnd(trace, cell.falls.includes('driverTimesOut') || cell.falls.includes('refusedLate'));
  // Where nobody acks it is the batch after a write that has asked for everything before the caller is told.
  const toldBy = row.ack === 'none' ? answers.filter(({ code, served }) => code === 'done' && served).map((answer) => answer.trace) : [trace];
  const asked = fallen.has('P3') ? [] : toldBy.map((seen) => askedBeforeAck(seen, row));
  const unmapped = fallen.has('P5') ? { complaints: [], tested: 0 } : revokedIsUnmapped(trace, row);
  const saving = answers.filter(({ code, to, served }) => code === 'done' && served && (to === 'stop-copy' || to.startsWith('pre-copy')));
  const complaints = [
    ...(isWhole(trace) ? [] : ['the trace has lost its beginning']),
    ...waits.complaints.map((text) => `P2: ${text}`),
    ...answers.filter((answer) => !mayBeTold(cell, answer)).map(({ to, code, message, served }) => `P2: a ${served ? '' : 'not '}served transition to ${to} answered ${code}: ${message}`),
    ...asked.flatMap((verdict) => verdict.complaints).map((text) => `P3: ${text}`),
    ...unmapped.complaints.map((text) => `P5: ${text}`),
    // What holds whether P5 falls or not: done is done.
    ...saving.flatMap(({ to, trace: seen }) => revokedAndMapped(seen, row).map((text) => `P5: ${to} was said to be done with ${text} mapped`)),
    ...Object.entries(held).filter(([, count]) => count !== 0).map(([what, count]) => `P6: ${count} ${what} are left`),
    // A disable frees what waits, in a blink on any machine; a driver that hears none, or stalls, has its own time.
    ...(fallen.has('P6') || closedAfterMs < patientMs / 2 ? [] : [`P6: closing took ${Math.round(closedAfterMs)} ms`]),
  ];
  return { complaints, tested: { P2: waits.tested + answers.length, P3: asked.reduce((sum, verdict) => sum + verdict.tested, 0), P5: unmapped.tested + saving.length, P6: 1 } };
}

async function lives(name: RowName, cell: Cell): Promise<string> {
  const schedules = fc.sample(kernelSchedules(cell), { numRuns: runs, seed });
  const tested = { P2: 0, P3: 0, P5: 0, P6: 0 };
  const one = async (nth: number): Promise<void> => {
    for (const schedule of schedules.filter((_, index) => index % side === nth)) {
      using mdev = new SampleMdev({ ackTimeoutMs: ackTimeoutMs(cell), profile: profiles[name], pages: schedule.pages });
      const { complaints, tested: times } = judged(name, cell, schedule, await play(mdev, cell, schedule));
      for (const promise of ['P2', 'P3', 'P5', 'P6'] as const) tested[promise] += times[promise];
      if (complaints.length > 0) {
        const seen = mdev.trace().map(({ seq, event, fields }) => `  ${seq} ${event} ${Object.entries(fields).map(([key, value]) => `${key}=${value}`).join(' ')}`);
        throw new Error(`seed ${seed}\n${complaints.join('\n')}\n${JSON.stringify(schedule)}\n${seen.join('\n')}`);
      }
    }
  };
  // All of them end, whatever one of them finds: no device is left open.
  const ended = await Promise.allSettled(Array.from({ length: side }, (_, nth) => one(nth)));
  for (const end of ended) if (end.status === 'rejected') throw end.reason;
  return `${name} | ${cell.fault.what}: ${runs} lives, seed ${seed}; tested: ${Object.entries(tested).map(([promise, times]) => `${promise} ${times}`).join(', ')}`;
}

describe.each(Object.keys(rows) as RowName[])('%s on the real kernel', (name) => {
  for (const { what } of faults) {
    const cell = cellOf(name, what);
    // The table in docs/contract.md says why there is no such cell.
    if (cell.nonsense !== undefined) continue;
    it(what === 'none' ? 'a driver that keeps its duties' : what, async () => {
      console.log(await lives(name, cell));
    }, 120_000);
  }
});

afterAll(() => {
  expect(vfioFds()).toEqual([]);
});

