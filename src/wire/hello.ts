import { array, boolean, failure, identity, intersection, literal, partial, string, success, tuple, type, Type, union, type TypeOf } from 'io-ts';
import { decodeOrThrow } from '../codec.js';
import { VfioError } from '../errors.js';
import { mostDataBytes, streamError } from './frame.js';

/** The versions of the format that this library speaks, oldest and newest. The frame itself, and the hello's first four fields, are the same in all of them. */
export const formatVersions = [1, 1] as const;

/** More devices than one migration has. */
export const mostDevices = 1024;

/** What one device may have in flight at most, bytes. */
export const mostWindowBytes = 1 << 26;

const isWhole = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0;

const whole = new Type<number>('a whole number', isWhole, (value, context) => (isWhole(value) ? success(value) : failure(value, context)), identity);

const deviceCodec = intersection([
  type({
    /** The name under which the destination knows it. */
    destination: string,
    /** In which generation it speaks of device_state. */
    generation: union([literal(1), literal(2)]),
    pci: boolean,
    irqs: whole,
    /** Index and size in bytes of every region. */
    regions: array(tuple([whole, whole])),
  }),
  partial({
    /** Vendor, device, revision of a PCI device. */
    ids: tuple([whole, whole, whole]),
  }),
]);

/** What makes two devices one kind. A state is loaded only where it was made by an equal one. */
export type DeviceKind = TypeOf<typeof deviceCodec>;

const helloCodec = type({
  protocol: literal('vfio-rx migration'),
  versions: tuple([whole, whole]),
  /** The name of this migration, the same in both journals and on every connection that is about it. */
  migration: string,
  purpose: union([literal('migrate'), literal('resolve')]),
  devices: array(deviceCodec),
});

/** The first message of the side that connects. */
export type Hello = TypeOf<typeof helloCodec>;

const welcomeCodec = type({
  version: whole,
  migration: string,
  /** What each device may have in flight, bytes. */
  windowBytes: whole,
  /** The most that one message of data carries, bytes. */
  chunkBytes: whole,
});

/** The answer to a hello that fits. */
export type Welcome = TypeOf<typeof welcomeCodec>;

/** Throws VFIO_E_STREAM. */
export function decodeHello(value: unknown): Hello {
  const hello = decodeOrThrow(helloCodec, value, 'VFIO_E_STREAM', 'hello');
  if (hello.devices.length > mostDevices) throw streamError(`a hello of ${hello.devices.length} devices: more than ${mostDevices} are not believed`);
  if (hello.migration.length === 0 || hello.migration.length > 64) throw streamError('the migration has no name, or a longer one than 64 characters');
  return hello;
}

/** Throws VFIO_E_STREAM. */
export function decodeWelcome(value: unknown): Welcome {
  const welcome = decodeOrThrow(welcomeCodec, value, 'VFIO_E_STREAM', 'welcome');
  const { windowBytes, chunkBytes } = welcome;
  if (chunkBytes < 1 || chunkBytes > mostDataBytes || windowBytes < chunkBytes || windowBytes > mostWindowBytes) throw streamError(`a window of ${windowBytes} bytes in chunks of ${chunkBytes} is none`);
  return welcome;
}

/** Throws VFIO_E_INCOMPATIBLE where a welcome is not the answer to this hello. */
export function requireAnswer({ version, migration }: Welcome, hello: Pick<Hello, 'versions' | 'migration'>): void {
  if (version < hello.versions[0] || version > hello.versions[1]) throw incompatible(`the other side goes on in version ${version} of the format, where it was offered ${hello.versions.join(' to ')}`);
  if (migration !== hello.migration) throw incompatible('the other side is about another migration');
}

/** The newest version that both speak. Throws VFIO_E_INCOMPATIBLE. */
export function commonVersion([oldest, newest]: Hello['versions'], own: readonly [number, number] = formatVersions): number {
  const version = Math.min(newest, own[1]);
  if (version < oldest || version < own[0]) {
    throw incompatible(`the other side speaks the versions ${oldest} to ${newest} of the format, this one ${own[0]} to ${own[1]}`);
  }
  return version;
}

/** Throws VFIO_E_INCOMPATIBLE, naming the first thing in which the destination's device is another than the source's. */
export function requireSameKind(source: DeviceKind, destination: DeviceKind): void {
  const differ = (what: string, a: unknown, b: unknown): void => {
    const [from, to] = [JSON.stringify(a), JSON.stringify(b)];
    if (from !== to) throw incompatible(`${what} differ: ${from} at the source, ${to} here`, source.destination);
  };
  differ('the generations of device_state', source.generation, destination.generation);
  differ('the buses (PCI or not)', source.pci, destination.pci);
  differ('vendor, device and revision', source.ids ?? null, destination.ids ?? null);
  differ('the numbers of irqs', source.irqs, destination.irqs);
  differ('the regions', sorted(source.regions), sorted(destination.regions));
}

function sorted(regions: DeviceKind['regions']): DeviceKind['regions'] {
  return [...regions].sort(([a], [b]) => a - b);
}

export function incompatible(what: string, device?: string): VfioError {
  return new VfioError('VFIO_E_INCOMPATIBLE', what, { operation: 'hello', device });
}
