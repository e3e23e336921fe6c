import { constants } from 'node:os';
import { firstValueFrom } from 'rxjs';
import { describe, it } from 'vitest';
import { realClock } from '../../src/clock.js';
import { openKernelPort } from '../../src/devices/kernel/open-kernel-port.js';
import type { Area, DevicePort, State } from '../../src/devices/port.js';
import { noAreaDma } from '../support/kernel-ways.js';
import { SampleMdev } from '../support/mdev.js';
import { describePort, type PortHarness, type PortScript, type PortWitness } from '../../src/testing/index.js';

/** The sample driver's sysfs, read at each use. */
class SysfsWitness implements PortWitness {
  readonly #mdev: SampleMdev;

  constructor(mdev: SampleMdev) {
    this.#mdev = mdev;
  }

  get opens(): number { return this.#mdev.number('opens'); }
  get vmas(): number { return this.#mdev.number('vmas'); }
  get irqs(): number { return this.#mdev.number('irqs'); }
  get waiters(): number { return this.#mdev.number('waiters'); }
  get sent(): bigint { return BigInt(this.#mdev.read('sent')); }
  get acked(): bigint { return BigInt(this.#mdev.read('acked')); }
  get violations(): number { return this.#mdev.number('violations'); }
  get state(): State { return this.#mdev.read('state').toLowerCase().replaceAll('_', '-') as State; }

  get layout(): ReadonlyMap<number, readonly Area[]> {
    return new Map([...this.#mdev.read('layout').matchAll(/^region=(\d+) areas=(.*)$/gm)].map(([, region = '', areas = '']) => [Number(region), areasOf(areas)]));
  }

  get trace(): PortWitness['trace'] {
    return this.#mdev.trace() as PortWitness['trace'];
  }
}

function areasOf(text: string): readonly Area[] {
  return [...text.matchAll(/(0x[0-9a-f]+)\+(0x[0-9a-f]+)/g)].map(([, offset, size]) => ({ offset: Number(offset), size: Number(size) }));
}

function scriptOf(mdev: SampleMdev): PortScript {
  return {
    revoke: (region) => mdev.write('revoke', region),
    restore: (region) => mdev.write('restore', region),
    raiseMsi: () => mdev.write('raise_msi', 1),
    intx: (up) => mdev.write('intx', up ? 1 : 0),
    ignoreAcks: (on) => mdev.write('ignore_acks', on ? 1 : 0),
    failQuery: (region, errno, times) => {
      if (region !== 0) throw new Error('the sample driver fails queries of region 0 only');
      mdev.write('fail_query_count', times);
      mdev.write('fail_region_info', (constants.errno as Readonly<Record<string, number>>)[errno] ?? 0);
    },
  };
}

/** A fresh mdev for each port, so that its trace and counts begin at nothing. */
function kernelHarness(): PortHarness {
  const open: { readonly mdev: SampleMdev; readonly port: DevicePort }[] = [];
  return {
    patienceMs: 20_000,
    briefMs: 2000,
    lacks: {
      lieAboutRegion: 'the sample driver answers queries truly or not at all; hostile bytes are tested on the readers',
      ...(noAreaDma === undefined ? {} : { areaDma: noAreaDma }),
    },
    openPort: async ({ ackTimeoutMs = 20_000 } = {}) => {
      const mdev = new SampleMdev({ ackTimeoutMs });
      try {
        const port = await firstValueFrom(openKernelPort(mdev.uuid, realClock));
        open.push({ mdev, port });
        return { port, witness: new SysfsWitness(mdev), script: scriptOf(mdev) };
      } catch (error) {
        mdev[Symbol.dispose]();
        throw error;
      }
    },
    dispose: async () => {
      for (const { mdev, port } of open.splice(0)) {
        await port[Symbol.asyncDispose]();
        mdev[Symbol.dispose]();
      }
    },
  };
}

describePort({ describe, it }, 'kernel', kernelHarness());
