import { inspect } from 'node:util';
import {
  type Area, type Layouts, type PortEvent, type ReleaseReport, type Remap, type RemapPlan, type RemapSignal, type StateView, type Warning,
} from 'vfio-rx';
import type { Progress } from './guest.js';
import type { Step } from './rounds.js';

/** One thing that happened: for a person in `text`, for a program in `data`. */
export interface Told {
  readonly what: 'device' | 'guests' | 'state' | 'irq' | 'diff' | 'unmap' | 'map' | 'regions' | 'ack' | 'saved' | 'warning' | 'closed';
  readonly text: string;
  readonly data: Readonly<Record<string, unknown>>;
  /** Of no interest to a person: routine in which nothing changed. */
  readonly routine?: boolean;
}

const nsPerMs = 1e6;

export function toldSignal({ batch, because, sumRead, doubtful }: RemapSignal): Told {
  const why = {
    signal: `${sumRead} read from the eventfd`,
    saturated: 'the eventfd was full',
    registered: 'registered: everything is looked at once',
    'after-deadline': 'a deadline has passed: everything is looked at once more',
    'after-transition': 'device_state was written: everything is looked at once more',
  }[because];
  const data = { batch, because, sumRead: Number(sumRead) };
  const text = doubtful ? `${why}, perhaps the own ack` : why;
  return { what: 'irq', text: `batch ${batch}: ${text}`, data, routine: because === 'after-transition' };
}

/** What a batch is about to do; nothing where nothing changed. */
export function toldPlan({ batch, diffs }: RemapPlan): readonly Told[] {
  const changes = diffs.filter(({ revoked, added }) => revoked.length + added.length > 0);
  if (changes.length === 0) return [];
  const text = changes.map(({ index, revoked, added }) => `region ${index}: ${[...revoked.map((area) => `-${span(area)}`), ...added.map((area) => `+${span(area)}`)].join(' ')}`);
  return [{ what: 'diff', text: text.join(' | '), data: { batch, diffs: changes.map(({ index, revoked, added }) => ({ index, revoked, added })) } }];
}

/** The ack of a batch; nothing where there was nothing to ack. */
export function toldRemap({ batch, acked, sumRead, servedNs, headroomNs }: Remap): readonly Told[] {
  if (!acked) return [];
  const servedMs = Number(servedNs) / nsPerMs;
  const headroomMs = headroomNs === undefined ? undefined : Number(headroomNs) / nsPerMs;
  const headroom = headroomMs === undefined ? '' : `, ${headroomMs.toFixed(1)} ms before the driver's deadline`;
  return [{ what: 'ack', text: `${sumRead}, served in ${servedMs.toFixed(2)} ms${headroom}`, data: { batch, value: Number(sumRead), servedMs, headroomMs } }];
}

export function toldRegions(layouts: Layouts): Told {
  const mappable = [...layouts.values()].map(({ index, mmappable, areas }) => ({ index, areas: mmappable ? areas : [] }));
  const text = mappable.map(({ index, areas }) => `${index}: ${areas.length === 0 ? 'trapped' : areas.map(span).join(' ')}`);
  return { what: 'regions', text: text.join(' | '), data: { regions: mappable } };
}

export function toldState({ state, going }: StateView): Told {
  const text = going === undefined ? state : `${state} -> ${going} is being written`;
  return { what: 'state', text, data: { state, ...(going === undefined ? {} : { going }) } };
}

export function toldStep(step: Step): Told {
  if (step.kind === 'saved') {
    const { state, bytes } = step;
    return { what: 'saved', text: `${bytes} bytes read from the data_fd in ${state}`, data: { state, bytes } };
  }
  const { from, to, tookNs } = step.arc;
  const tookMs = Number(tookNs) / nsPerMs;
  return { what: 'state', text: `${from} -> ${to}: the write returned after ${tookMs.toFixed(2)} ms`, data: { from, to, tookMs } };
}

/** The port's own lanes: only what changes mappings; the rest is told by the streams. */
export function toldPortEvent({ lane, region, area }: PortEvent): readonly Told[] {
  if ((lane !== 'unmap' && lane !== 'map') || region === undefined || area === undefined) return [];
  return [{ what: lane, text: `region ${region} ${span(area)}`, data: { region, area } }];
}

export function toldWarning({ what, error }: Warning): Told {
  const why = error === undefined ? '' : `: ${reason(error)}`;
  return { what: 'warning', text: `${what}${why}`, data: { message: `${what}${why}` } };
}

export function toldGuests(latest: readonly Progress[]): Told {
  const text = latest.map(({ guest, sent }) => `guest ${guest} sent ${sent}`);
  return { what: 'guests', text: text.join(', '), data: { guests: latest } };
}

export function toldRelease({ what, error }: ReleaseReport): Told {
  return { what: 'closed', text: error === undefined ? what : `${what}: ${reason(error)}`, data: { step: what } };
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : inspect(error);
}

function span({ offset, size }: Area): string {
  return `0x${offset.toString(16)}+0x${size.toString(16)}`;
}
