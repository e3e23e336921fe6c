import { createHash } from 'node:crypto';
import { merge, Observable, ReplaySubject } from 'rxjs';
import type { VfioDevice } from '../devices/device.js';
import { withDevice, type DeviceAddress } from '../devices/open.js';
import { softwareDevice, type SoftwareDevice } from '../devices/software/software-device.js';
import { demandingDevice } from './demanding-device.js';
import { parseDeviceName } from './device-name.js';
import { VfioError } from '../errors.js';
import { remapRegions } from '../operators/remap-regions.js';
import { remapIrq } from '../streams/remap-irq.js';

/** A device as a command works with it. A software one is `software`, which demands remaps, `software:NAME?every=MS`, which does so by itself, or `software:NAME?bytes=N&seed=N&version=1`. */
export interface NamedDevice {
  readonly name: string;
  readonly address: DeviceAddress;
  /** sha256 of what a software device holds, so that two processes can be compared. */
  readonly digest?: () => string;
}

const mostBytes = 1 << 30;
const mostMs = 60_000;

/** The device that a name means. Throws VFIO_E_ADDRESS. */
export function parseDevice(text: string): NamedDevice {
  const named = parseDeviceName(text);
  if (named.kind !== 'software') return { name: named.alias ?? named.address, address: named.address };
  const device = named.name === undefined ? { name: 'software', address: softwareDevice() } : softwareOf(named.name, named.options, text);
  return { ...device, name: named.alias ?? device.name };
}

const softwareOptions = ['bytes', 'seed', 'version', 'every'];

function softwareOf(name: string, options: URLSearchParams, text: string): NamedDevice {
  const number = (key: string, standard: number, most = mostBytes): number => {
    const value = Number(options.get(key) ?? standard);
    if ([...options.keys()].every((one) => softwareOptions.includes(one)) && Number.isSafeInteger(value) && value >= 0 && value <= most) return value;
    throw new VfioError('VFIO_E_ADDRESS', `"${text}" is no software device: software:NAME?bytes=N&seed=N&version=1, or software:NAME?every=MS`, { operation: 'address' });
  };
  const everyMs = number('every', 0, mostMs);
  if (everyMs > 0) return { name, address: demandingDevice(name, everyMs) };
  const bytes = number('bytes', 1 << 20);
  const software = softwareDevice({ name, regions: [{ index: 0, size: bytes }], remap: false, mailbox: false, migrationVersion: number('version', 2) === 1 ? 1 : 2 });
  if (options.has('seed')) fill(software, bytes, number('seed', 0));
  return { name, address: software, digest: () => createHash('sha256').update(software.driver.readRegion(0, 0, bytes)).digest('hex') };
}

/** The same contents for the same seed, and no page like another. */
function fill({ driver }: SoftwareDevice, bytes: number, seed: number): void {
  const words = new Uint32Array(Math.ceil(bytes / 4));
  let word = (seed * 2654435761 + 1) >>> 0;
  for (let n = 0; n < words.length; n += 1) words[n] = word = (Math.imul(word, 1664525) + 1013904223) >>> 0;
  driver.writeRegion(0, 0, new Uint8Array(words.buffer, 0, bytes));
}

export interface OpenedDevice extends NamedDevice {
  readonly device: VfioDevice;
}

/**
 * Opens all of them, serves what their drivers demand while `body` lives, and closes them when it ends. Where one can be served no longer
 * `broken` fails with the reason; `body` goes on until it has said what it ends with, and then this fails.
 */
export function withDevices<T>(named: readonly NamedDevice[], body: (devices: readonly OpenedDevice[], broken: Observable<never>) => Observable<T>): Observable<T> {
  const open = ([first, ...rest]: readonly NamedDevice[], opened: readonly OpenedDevice[]): Observable<T> =>
    first === undefined ? served(opened, (broken) => body(opened, broken)) : withDevice(first.address, (device) => open(rest, [...opened, { ...first, device }]));
  return open(named, []);
}

function served<T>(devices: readonly OpenedDevice[], body: (broken: Observable<never>) => Observable<T>): Observable<T> {
  return new Observable<T>((subscriber) => {
    const broken = new ReplaySubject<never>(1);
    let why: { readonly error: unknown } | undefined;
    const serving = merge(...devices.map(({ device }) => remapIrq(device).pipe(remapRegions(device)))).subscribe({
      error: (error: unknown) => {
        why = { error };
        broken.error(error);
      },
    });
    subscriber.add(body(broken).subscribe({
      next: (value) => subscriber.next(value),
      error: (error: unknown) => subscriber.error(error),
      complete: () => {
        if (why === undefined) subscriber.complete();
        else subscriber.error(why.error);
      },
    }));
    subscriber.add(serving);
  });
}
