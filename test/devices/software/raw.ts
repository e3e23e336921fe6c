import { SoftEventfd } from '../../../src/devices/software/eventfd.js';
import { shapeOf, type SoftwareDeviceOptions } from '../../../src/devices/software/options.js';
import type { Outcome } from '../../../src/devices/software/state-machine.js';
import { Timers } from '../../../src/devices/software/timers.js';
import { VendorDriver } from '../../../src/devices/software/vendor-driver.js';
import type { State } from '../../../src/devices/port.js';
import { virtualClock, type VirtualClock } from '../../support/virtual-clock.js';

/** The user's eventfds of one page. */
export interface RawPage {
  readonly trigger: SoftEventfd;
  readonly ack: SoftEventfd;
}

/** A driver without a port above it: the user is the test, with its hands on the eventfds. */
export interface Raw {
  readonly clock: VirtualClock;
  readonly driver: VendorDriver;
  readonly pages: readonly RawPage[];
  /** Page 0. */
  readonly trigger: SoftEventfd;
  readonly ack: SoftEventfd;
  /** Writes device_state. The outcome is there once the write has returned. */
  readonly write: (to: State) => { readonly outcome: Outcome | undefined };
  /** The trace from the beginning, as text, of these words (all where none is given). */
  readonly traced: (...words: readonly string[]) => readonly string[];
}

/** Opened, and its remap irqs registered as the profile wants it, unless `registered` is false. */
export function raw(options: SoftwareDeviceOptions = {}, registered = true): Raw {
  const clock = virtualClock();
  const driver = new VendorDriver(shapeOf(options));
  driver.open(new Timers(clock));
  const { remap } = driver.shape;
  const pages = (remap?.pages ?? []).map(({ irqIndex }) => {
    const page = { trigger: new SoftEventfd(), ack: new SoftEventfd() };
    if (registered) {
      driver.registerIrq(irqIndex, 'trigger', page.trigger);
      if (remap?.profile === 'region-remap' && remap.ack === 'value') driver.registerIrq(irqIndex, 'ack', page.ack);
    }
    return page;
  });
  const first = pages[0] ?? { trigger: new SoftEventfd(), ack: new SoftEventfd() };
  return {
    clock,
    driver,
    pages,
    ...first,
    write: (to) => {
      const seen: { outcome: Outcome | undefined } = { outcome: undefined };
      driver.setState(to, (outcome) => { seen.outcome = outcome; });
      return seen;
    },
    traced: (...words) => driver.trace
      .filter(({ event }) => words.length === 0 || words.includes(event))
      .map(({ event, fields }) => [event, ...Object.entries(fields).map(([name, value]) => `${name}=${value}`)].join(' ')),
  };
}

const page = 0x1000;

/** Regions of two pages, all of which may be mapped, and nothing of them in the saving group. */
export function plainRegions(...indexes: readonly number[]): NonNullable<SoftwareDeviceOptions['regions']> {
  return indexes.map((index) => ({ index, size: 2 * page, areas: 'all', savingAreas: [] }));
}
