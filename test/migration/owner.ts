import { merge, type Subscription } from 'rxjs';
import type { State } from '../../src/devices/port.js';
import type { Opened, Pair } from './pair.js';

/** States in which a device does what its guest wants. */
const running: ReadonlySet<State> = new Set(['running', 'running-p2p', 'pre-copy', 'pre-copy-p2p']);

/** Who is dead: its devices died with it, whatever this process still holds. */
export interface Dead {
  source: boolean;
  destination: boolean;
}

function bytes({ driver }: Opened): Buffer {
  return Buffer.concat([driver.readRegion(0, 0, 0x1000), driver.readRegion(2, 0, 0x2000)]);
}

/** Which sides run the state that the source began with; by what the devices hold and do, not by what anybody says. */
export function owners(p: Pair, state: readonly Buffer[], dead: Dead): readonly string[] {
  const runs = (some: readonly Opened[], with_: boolean): boolean => some.some((one, n) => one.driver.opens > 0 && running.has(one.driver.state) && (!with_ || state[n]?.equals(bytes(one)) === true));
  return [...(!dead.source && runs(p.source, false) ? ['source'] : []), ...(!dead.destination && runs(p.destination, true) ? ['destination'] : [])];
}

export function states(p: Pair): readonly Buffer[] {
  return p.source.map(bytes);
}

/** Looks at every change of every device. Throws where two sides run, and what `judge` throws. */
export function watchOwners(p: Pair, state: readonly Buffer[], dead: Dead, judge: (who: readonly string[]) => void = () => undefined): Subscription {
  return merge(...[...p.source, ...p.destination].map(({ device }) => device.state)).subscribe({
    next: () => {
      const who = owners(p, state, dead);
      if (who.length > 1) throw new Error('two sides run');
      judge(who);
    },
    error: (error: unknown) => { throw error; },
  });
}
