import { concat, defer, EMPTY, ignoreElements, Subject, timer, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { nowCall } from '../../src/devices/call.js';
import type { VfioDevice } from '../../src/devices/device.js';
import type { Holder, MappedPiece } from '../../src/devices/holders.js';
import type { Area } from '../../src/devices/port.js';
import { intersectAreas, subtractAreas } from '../../src/devices/protocol/areas.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { marbles } from '../../src/testing/index.js';
import { now, openedNow, twoRegions, whole } from '../support/devices.js';

/** Whoever uses a device's areas outside the accessors is a `Holder`: here is one of each kind, as small as it can be. */

const served = (device: VfioDevice): Observable<never> => remapIrq(device).pipe(remapRegions(device), ignoreElements());

/** Another device that does DMA to the areas. Told to pause, it ends what it has begun; its answer says that it has. */
class Peer implements Holder {
  readonly name = 'peer';
  readonly pause: () => Observable<unknown>;
  readonly resume: () => void;

  constructor(pause: () => Observable<unknown>, resume: () => void) {
    this.pause = pause;
    this.resume = resume;
  }

  release(): Observable<unknown> {
    return this.pause();
  }

  regain(): Observable<unknown> {
    return nowCall(this.resume);
  }
}

/** The memory slots of a virtual machine: what a guest reaches without an exit. `set` and `remove` are its hypervisor's calls. */
class GuestMemory implements Holder {
  readonly name = 'guest memory';
  readonly slots = new Map<number, MappedPiece>();

  /** A slot cannot be cut: each that shows some of the areas goes, and what it showed beside them is exits from now on. */
  release(areas: readonly Area[]): Observable<unknown> {
    return nowCall(() => {
      for (const [slot, { area }] of this.slots) if (intersectAreas([area], areas).length > 0) this.slots.delete(slot);
    });
  }

  regain(pieces: readonly MappedPiece[]): Observable<unknown> {
    return nowCall(() => {
      for (const piece of pieces) this.slots.set(piece.area.offset / 0x1000, piece);
    });
  }
}

/** A relay that has shown its clients the areas: it asks each of them over its own wire, and goes on when the last has answered. */
class Relay implements Holder {
  readonly name = 'relay';
  readonly roundTrip: () => Observable<unknown>;
  readonly #sent = new Subject<string>();
  #shown: readonly Area[] = [];

  constructor(roundTrip: () => Observable<unknown>) {
    this.roundTrip = roundTrip;
  }

  get sent(): Observable<string> {
    return this.#sent.asObservable();
  }

  release(areas: readonly Area[]): Observable<unknown> {
    this.#shown = subtractAreas(this.#shown, areas);
    return concat(this.#tell('take'), this.roundTrip());
  }

  regain(pieces: readonly MappedPiece[]): Observable<unknown> {
    this.#shown = [...this.#shown, ...pieces.map(({ area }) => area)];
    return this.#tell('give');
  }

  #tell(what: string): Observable<never> {
    return defer(() => { this.#sent.next(what); return EMPTY; });
  }
}

describe('a holder may be', () => {
  it('a peer that does DMA: it is still when its area leaves the IOMMU, and goes on when that is back', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      const region = device.region(0);
      let runs = false;
      let faults = 0;
      const writes = (): void => { if (runs && !driver.dma.write(0x10_0000n, Uint8Array.of(7))) faults += 1; };
      // It ends what it has begun in 3 us.
      const peer = new Peer(() => concat(timer(0.003, t.clock.scheduler), nowCall(() => { runs = false; })), () => { runs = true; });
      t.expect(served(device)).toBe('');
      t.expect(region.mapDma(whole, { iova: 0x10_0000n, read: true, write: true }).pipe(ignoreElements()), '-^').toBe('-|');
      t.at('        --h', { h: () => now(region.hold([whole], peer)) });
      t.at('        ---w-w-w-w-w-w-w', { w: writes });
      t.at('        ----r-----s', { r: () => driver.revoke(0), s: () => driver.restore(0) });
      t.expectDevice(device).toShow({ unmap: '-------u', ack: '-------1--1' });
      t.atEnd(() => {
        expect([faults, driver.violations, runs]).toEqual([0, 0, true]);
        expect(driver.readRegion(0, 0, 1)).toEqual(Uint8Array.of(7));
      });
    });
  });

  it('the memory slots of a guest: gone before the area, set again when it is back', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      const guest = new GuestMemory();
      const seen: number[] = [];
      t.expect(served(device)).toBe('');
      t.at('        -h', { h: () => now(device.region(0).hold([whole], guest)) });
      t.at('        ---r---s', { r: () => driver.revoke(0), s: () => driver.restore(0) });
      t.at('        --x-x---x', { x: () => seen.push(guest.slots.size) });
      t.expectDevice(device).toShow({ unmap: '---u', ack: '---1---1' });
      t.atEnd(() => expect(seen).toEqual([1, 0, 1]));
    });
  });

  it('a relay with clients of its own: the ack waits for the last of them', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      const relay = new Relay(() => timer(0.004, t.clock.scheduler));
      t.expect(served(device)).toBe('');
      t.expect(relay.sent).toBe('-g-t----g'.replaceAll('g', '<give>').replaceAll('t', '<take>'));
      t.at('        -h', { h: () => now(device.region(0).hold([whole], relay)) });
      t.at('        ---r----s', { r: () => driver.revoke(0), s: () => driver.restore(0) });
      t.expectDevice(device).toShow({ unmap: '-------u', ack: '-------11' });
    });
  });
});
