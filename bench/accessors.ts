/**
 * What an access costs: region accessors on a mapped area, beside a bare Uint32Array on memory mapped in the same way.
 * Started pinned by run.ts; prints one line of JSON, ns per access, the best of many rounds on each side in turn.
 *
 *   accessors.ts FILE
 */
import { firstValueFrom, lastValueFrom } from 'rxjs';
import { openDevice, type Region } from '../src/index.js';
import { mapAnonymous } from '../src/devices/linux/mapped-memory.js';
import { RemapDevice } from './remap-device.js';

const words = 1024;
const accesses = 1_000_000;
const rounds = 15;

const [file = ''] = process.argv.slice(2);
const shared = new RemapDevice(file, 2, 16);
const device = await firstValueFrom(openDevice(shared));
await lastValueFrom(device.mapRegion(0));
const [mapped, trapped] = [device.region(0), device.region(1)];
const bare = new Uint32Array(mapAnonymous(words * 4).memory);

/** Each loop stands alone, so that the engine compiles it for the one kind of access that it makes. */
const loops = {
  bareReadNs: (): number => {
    let sum = 0;
    for (let n = 0; n < accesses; n++) sum = (sum + (bare[n % words] ?? 0)) | 0;
    return sum;
  },
  mappedReadNs: (): number => readAll(mapped, accesses),
  bareWriteNs: (): number => {
    for (let n = 0; n < accesses; n++) bare[n % words] = n;
    return 0;
  },
  mappedWriteNs: (): number => {
    for (let n = 0; n < accesses; n++) mapped.write32((n % words) * 4, n);
    return 0;
  },
  /** One pread each: fewer of them. */
  trappedReadNs: (): number => {
    let sum = 0;
    for (let n = 0; n < accesses / 100; n++) sum = (sum + trapped.read32((n % words) * 4)) | 0;
    return sum;
  },
};

function readAll(region: Region, count: number): number {
  let sum = 0;
  for (let n = 0; n < count; n++) sum = (sum + region.read32((n % words) * 4)) | 0;
  return sum;
}

const best = new Map<string, number>();
let used = 0;
function play(names: readonly (keyof typeof loops)[], each: number): void {
  for (let round = 0; round < rounds; round++) {
    for (const name of names) {
      const from = process.hrtime.bigint();
      used += loops[name]();
      const ns = Number(process.hrtime.bigint() - from) / each;
      best.set(name, Math.min(best.get(name) ?? Number.POSITIVE_INFINITY, ns));
    }
  }
}

play(['bareReadNs', 'mappedReadNs', 'bareWriteNs', 'mappedWriteNs'], accesses);
play(['trappedReadNs'], accesses / 100);
await device.close();
shared.close();
console.log(JSON.stringify({ ...Object.fromEntries(best), used }));
