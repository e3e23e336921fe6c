import type { State } from '../../src/devices/port.js';
import { pageSize, type SoftwareDeviceOptions, type SoftwareRegion } from '../../src/devices/software/options.js';

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
  /** The first one always counts as declared. */
  readonly regions: readonly RegionSketch[];
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

/** One run, as fast-check makes it and shrinks it. */
export interface Schedule {
  readonly device: DeviceSketch;
  /** How late the user's own operators before decode, re-query, diff, apply and ack are, batch by batch, round and round. */
  readonly lateUs: readonly (readonly number[])[];
  readonly acts: readonly Timed[];
  /** When all this has come to rest: nothing more, a user without a pipeline subscribes again, or the device is closed. */
  readonly ending: 'nothing' | 'subscribe again' | 'close';
}

export function deviceOptions({ regions, migration, ackTimeoutMs, maxWaits }: DeviceSketch): SoftwareDeviceOptions {
  return {
    regions: regions.map((sketch, index) => regionOf(sketch, index)),
    numRegions: regions.length,
    remap: { regions: declaredRegions({ regions }).reduce((bits, index) => bits | (1n << BigInt(index)), 0n), ackTimeoutMs, maxWaits },
    migration,
    mailbox: false,
    traceEvents: 50_000,
  };
}

export function declaredRegions({ regions }: Pick<DeviceSketch, 'regions'>): readonly number[] {
  return [...regions.keys()].filter((index) => index === 0 || regions[index]?.declared === true);
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
export function schedulePrinted({ device, lateUs, acts, ending }: Schedule): string {
  const { regions, ...rest } = device;
  let atUs = 0;
  return [
    `device   ${Object.entries(rest).map(([name, value]) => `${name} ${value}`).join(', ')}`,
    ...regions.map(({ pages, outside, saving }, index) =>
      `region ${index} ${pages} pages, ${declaredRegions(device).includes(index) ? `offers ${outside}, while saving ${saving}` : `not declared, offers ${outside}`}`),
    `user     ${lateUs.flatMap((us, step) => (us.some((one) => one > 0) ? [`${us.join(', ')} us late before ${stepNames[step]}`] : [])).join('; ') || 'is never late'}`,
    ...acts.map(({ afterUs, act: { do: what, ...how } }) => {
      atUs += afterUs;
      const details = Object.entries(how).filter(([, value]) => value !== undefined).map(([name, value]) => `${name} ${String(value)}`).join(', ');
      return `${`${atUs}us`.padEnd(8)} ${what}${details === '' ? '' : `: ${details}`}`;
    }),
    `at rest  ${ending}`,
  ].join('\n');
}

/** The steps of the pipeline, as `lateUs` counts them. */
const stepNames = ['decode', 'requery', 'diff', 'apply', 'acknowledge'] as const;
