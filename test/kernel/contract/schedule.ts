import fc from 'fast-check';
import { ackKind, hasIrq, hasPages } from '../../properties/rows.js';
import type { Cell } from '../../properties/contract/cells.js';

/** What happens beside a write of device_state, or between two. */
export type Aside =
  | { readonly what: 'revoke' | 'restore'; readonly region: number }
  | { readonly what: 'unsubscribe' | 'subscribe' };

export type Act =
  | Aside
  /** A write of device_state; the target is one that the state of that moment has an arc to. */
  | { readonly what: 'go'; readonly pick: number; readonly aside?: { readonly act: Aside; readonly afterMs: number } };

/** One life of a device on the real kernel, from its opening to its closing. */
export interface KernelSchedule {
  readonly pages: 1 | 2;
  /** The switches of the driver are thrown before this act. */
  readonly faultAt: number;
  /** The driver's switch, where there are several. */
  readonly variant: number;
  /** How long an operator of the user keeps each signal, ms. */
  readonly slowMs: number;
  readonly acts: readonly Act[];
  /** Closed while a write of device_state is under way. */
  readonly closedInMidAir: boolean;
}

/** Schedules that make sense in the cell. */
export function kernelSchedules(cell: Cell): fc.Arbitrary<KernelSchedule> {
  const { row, fault } = cell;
  // The posted driver signals inside device_state only: with its own signals nobody could be safe from its rule.
  const ownSignals = hasIrq(row) && !(fault.what === 'take any ack' && ackKind(row) === 'bare');
  return fc.constantFrom(...(hasPages(row) ? ([1, 1, 2] as const) : ([1] as const))).chain((pages) => {
    const region = fc.constantFrom(...(pages === 2 ? [0, 1, 64] : [0, 1]));
    const aside: fc.Arbitrary<Aside> = fc.oneof(
      ...(ownSignals ? [{ weight: 4, arbitrary: fc.record({ what: fc.constantFrom('revoke' as const, 'restore' as const), region }) }] : []),
      { weight: 1, arbitrary: fc.record({ what: fc.constant('unsubscribe' as const) }) },
      { weight: 1, arbitrary: fc.record({ what: fc.constant('subscribe' as const) }) },
    );
    const go: fc.Arbitrary<Act> = fc.record({
      what: fc.constant('go' as const),
      pick: fc.nat(59),
      aside: fc.option(fc.record({ act: aside, afterMs: fc.nat(4) }), { nil: undefined, freq: 3 }),
    }).map(({ aside: beside, ...act }) => (beside === undefined ? act : { ...act, aside: beside }));
    return fc.record({
      pages: fc.constant(pages),
      faultAt: fc.nat(2),
      variant: fc.nat(11),
      slowMs: fc.constantFrom(0, 0, 1, 3),
      acts: fc.array(fc.oneof({ weight: 3, arbitrary: go }, { weight: 1, arbitrary: aside }), { minLength: 2, maxLength: 5 }),
      closedInMidAir: fc.boolean(),
    });
  });
}
