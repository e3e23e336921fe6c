import type { State } from '../../src/devices/port.js';
import type { Faults } from '../../src/devices/software/faults.js';
import { pageSize, type SoftwareDeviceOptions, type SoftwareRegion } from '../../src/devices/software/options.js';
import type { Row } from './rows.js';

/** What of a region may be mapped: nothing, all of it, or every second page. */
export type Offer = 'nothing' | 'all' | 'sparse';

export interface RegionSketch {
  readonly pages: number;
  readonly outside: Offer;
  /** In the saving group. */
  readonly saving: Offer;
  /** May be signalled. An undeclared region is the same in every state. */
  readonly declared: boolean;
}

export interface DeviceSketch {
  readonly row: Row;
  /** The first one always counts as declared. */
  readonly regions: readonly RegionSketch[];
  /** The index of the first region. */
  readonly firstIndex: number;
  /** How many of the regions stand beyond the first 64, on a page of their own. */
  readonly onNextPage: number;
  readonly migration: number;
  readonly ackTimeoutMs: number;
  readonly maxWaits: number;
  readonly signalDelayUs: number;
  readonly arcLatencyUs: number;
}

/** One thing that the driver, the user or a guest does. `region` counts through the declared regions, round and round. */
export type Act =
  /** `over`: into the saving group, or out of it, from wherever the device is. */
  | { readonly do: 'transition'; readonly to: State | 'over'; readonly deadlineMs: number | undefined }
  | { readonly do: 'detach' }
  | { readonly do: 'revoke' | 'restore' | 'flicker' | 'touch'; readonly region: number }
  | { readonly do: 'hold'; readonly region: number; readonly letsGoAfterUs: number }
  | { readonly do: 'fail query' | 'fail map'; readonly region: number; readonly times: number }
  | { readonly do: 'fail arc'; readonly to: Exclude<State, 'error'> }
  | { readonly do: 'ignore acks'; readonly on: boolean }
  | { readonly do: 'subscribe' | 'unsubscribe' | 'reset' | 'remove' | 'close' };

export interface Timed {
  /** Since the act before it. */
  readonly afterUs: number;
  readonly act: Act;
}

/** How a driver misbehaves for a whole run; nothing for one that keeps its duties. */
export interface Misbehaviour {
  readonly what: string;
  readonly begin: (faults: Faults) => void;
}

export const keepsItsDuties: Misbehaviour = { what: 'none', begin: () => undefined };

/** One run, as fast-check makes it and shrinks it. */
export interface Schedule {
  readonly device: DeviceSketch;
  readonly misbehaviour: Misbehaviour;
  /** User and guests are as quick as a driver with its timeout must be able to expect: then no deadline decides. */
  readonly live: boolean;
  /** A user of the old kind does not subscribe before it is told to. */
  readonly subscribesAtOnce: boolean;
  /** How late the user's own operators before decode, re-query, diff, apply and ack are, batch by batch, round and round. */
  readonly lateUs: readonly (readonly number[])[];
  readonly acts: readonly Timed[];
  /** What happens when all that has come to rest. */
  readonly afterRest: readonly Timed[];
  /** When this, too, has come to rest: nothing more, a user without a pipeline subscribes again, the device is closed, or the user
   *  subscribes again (anew, if it has a pipeline) and closes after that. */
  readonly ending: 'nothing' | 'subscribe again' | 'close' | 'anew, then close';
}

export function deviceOptions(device: DeviceSketch): SoftwareDeviceOptions {
  const { row, regions, migration, ackTimeoutMs, maxWaits } = device;
  const indexes = regionIndexes(device);
  const declared = declaredRegions(device).reduce((bits, index) => bits | (1n << BigInt(index)), 0n);
  return {
    regions: regions.map((sketch, n) => regionOf(sketch, indexes[n] ?? n)),
    numRegions: Math.max(...indexes) + 1,
    remap: row.remap === false ? false : { ...row.remap, regions: declared, ackTimeoutMs, maxWaits },
    migration,
    mailbox: false,
    traceEvents: 50_000,
  };
}

type Placed = Pick<DeviceSketch, 'regions' | 'firstIndex' | 'onNextPage'>;

/** Regions of one page; see the protocol. */
export const pageRegions = 64;

function regionIndexes({ regions, firstIndex, onNextPage }: Placed): readonly number[] {
  const here = regions.length - onNextPage;
  return regions.map((_, n) => (n < here ? firstIndex + n : pageRegions + n - here));
}

/** Those that the driver may signal, and whose layout may change. */
export function declaredRegions(device: Placed): readonly number[] {
  return regionIndexes(device).filter((_, n) => n === 0 || device.regions[n]?.declared === true);
}

function regionOf({ pages, outside, saving }: RegionSketch, index: number): SoftwareRegion {
  return { index, size: pages * pageSize, areas: areasOf(outside, pages), savingAreas: areasOf(saving, pages) };
}

function areasOf(offer: Offer, pages: number): NonNullable<SoftwareRegion['areas']> {
  if (offer === 'all') return 'all';
  if (offer === 'nothing') return [];
  return Array.from({ length: Math.ceil(pages / 2) }, (_, n) => ({ offset: 2 * n * pageSize, size: pageSize }));
}

/** A schedule as a person reads it. */
export function schedulePrinted({ device, misbehaviour, subscribesAtOnce, lateUs, acts, afterRest, ending }: Schedule): string {
  const { regions, row, ...rest } = device;
  const indexes = regionIndexes(device);
  let atUs = 0;
  return [
    `row      ${row.name}; misbehaviour: ${misbehaviour.what}`,
    `device   ${Object.entries(rest).map(([name, value]) => `${name} ${value}`).join(', ')}`,
    ...regions.map(({ pages, outside, saving }, n) =>
      `region ${indexes[n]} ${pages} pages, ${declaredRegions(device).includes(indexes[n] ?? n) ? `offers ${outside}, while saving ${saving}` : `not declared, offers ${outside}`}`),
    `user     ${lateUs.flatMap((us, step) => (us.some((one) => one > 0) ? [`${us.join(', ')} us late before ${stepNames[step]}`] : [])).join('; ') || 'is never late'}${subscribesAtOnce ? '' : ', and does not subscribe of itself'}`,
    ...acts.map(({ afterUs, act }) => {
      atUs += afterUs;
      return `${`${atUs}us`.padEnd(8)} ${actPrinted(act)}`;
    }),
    ...afterRest.map(({ afterUs, act }) => `at rest  ${afterUs}us later ${actPrinted(act)}`),
    `at rest  ${ending}`,
  ].join('\n');
}

function actPrinted({ do: what, ...how }: Act): string {
  const details = Object.entries(how).filter(([, value]) => value !== undefined).map(([name, value]) => `${name} ${String(value)}`).join(', ');
  return `${what}${details === '' ? '' : `: ${details}`}`;
}

/** The steps of the pipeline, as `lateUs` counts them. */
const stepNames = ['decode', 'requery', 'diff', 'apply', 'acknowledge'] as const;
