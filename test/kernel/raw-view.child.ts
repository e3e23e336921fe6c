import { firstValueFrom } from 'rxjs';
import { openDevice } from '../../src/devices/open.js';

/**
 * A user without accessors: keeps a raw view on a mapped BAR, and touches it when the device does not decode it any more.
 * Says `mapped` when it has read through the view once, and `alive` when it has read a second time.
 */
const [address = '', how = 'memory-space'] = process.argv.slice(2);
const say = (word: string) => process.stdout.write(`${word}\n`);

const device = await firstValueFrom(openDevice(address));
await firstValueFrom(device.mapRegion(0));
const [piece] = device.region(0).pieces();
if (piece === undefined) throw new Error('BAR 0 is not mapped');
const view = new Uint32Array(piece.memory);
const touch = (word: string) => say(`${word} ${view[0]}`);

touch('mapped');
if (how === 'memory-space') device.region(7).write16(4, 0);
if (how === 'power-state') await firstValueFrom(device.region(7).request({ offset: Number(process.argv[4]), write: Uint8Array.of(3, 0) }));
if (how === 'low-power') await firstValueFrom(device.lowPower(true));
touch('alive');
await device.close();
