import { dirname, join, relative } from 'node:path';
import { parseArgs, type ParseArgsConfig } from 'node:util';
import { finalize, fromEvent, merge, NEVER, share, take, timer, type MonoTypeOperatorFunction, type Observable } from 'rxjs';
import { withDevice, type DeviceAddress, type PortSource, type SoftwareDeviceOptions, type VfioDevice } from 'vfio-rx';

/** What every example is as a program: its options, its end in order, its errors in one line. */

/** Ctrl-C, or SIGTERM; a second one ends the process at once. Or nothing can come any more: a recorded run is over. */
export const interrupted = merge(...['SIGINT', 'SIGTERM', 'beforeExit'].map((name) => fromEvent(process, name))).pipe(take(1), share());

/** How long an example plays with a software device that does not end by itself, ms. */
const playedMs = 2000;

/** The page of the example that runs, which says what it takes. */
const page = relative('', join(dirname(process.argv[1] ?? ''), 'README.md'));

/** The command line. What it does not know ends the process with 2; `--help` with 0. */
export function parsed<T extends ParseArgsConfig>(config: T): ReturnType<typeof parseArgs<T>> {
  if (process.argv.includes('--help')) {
    console.log(`What it shows and takes: ${page}`);
    process.exit(0);
  }
  try {
    return parseArgs(config);
  } catch (error) {
    // Node's own advice behind the first sentence is about other programs.
    return misused(messageOf(error).replace(/\.\s.*$/s, ''));
  }
}

export function misused(why: string): never {
  process.stderr.write(`${why} (more: ${page})\n`);
  process.exit(2);
}

/** Makes the software device of an example. */
export type Software = (named: Pick<SoftwareDeviceOptions, 'name'>) => PortSource;

/** A device as `openDevice` names it, and then a string; or the software one of the example: `software`, `software:NAME`, and where there is no name. */
export function addressOf(text = 'software', software: Software): DeviceAddress {
  if (!/^software(:|$)/.test(text)) return text;
  const [whole, name] = /^software(?::([^?=&]+))?$/.exec(text) ?? [];
  if (whole === undefined) misused(`"${text}" names no device of this example: software, or software:NAME`);
  return software(name === undefined ? {} : { name });
}

/** The device of `--device`, or the software one; and when an example that has no end of its own is over. */
export function example(software: Software): { readonly address: DeviceAddress; readonly over: Observable<unknown> } {
  const { device } = parsed({ options: { device: { type: 'string' } } }).values;
  const address = addressOf(device, software);
  return { address, over: merge(interrupted, typeof address === 'string' ? NEVER : timer(playedMs)).pipe(take(1)) };
}

/** Several devices, opened one after the other and closed in reverse order; see `withDevice`. */
export function withDevices<T>(addresses: readonly DeviceAddress[], body: (devices: readonly VfioDevice[]) => Observable<T>): Observable<T> {
  const [first, ...rest] = addresses;
  return first === undefined ? body([]) : withDevice(first, (device) => withDevices(rest, (others) => body([device, ...others])));
}

/** Says in which state devices are given back, whatever has ended it. */
export function sayingStates<T>(...devices: readonly VfioDevice[]): MonoTypeOperatorFunction<T> {
  return finalize(() => {
    for (const { name, currentState: { state, going } } of devices) console.log(`closing ${name}: it is ${going === undefined ? '' : `on its way to ${going} from `}${state}`);
  });
}

/** Does the work of an example. */
export function run(work: Observable<unknown>): void {
  work.subscribe({
    error: (error: unknown) => {
      process.stderr.write(`${messageOf(error)}\n`);
      process.exitCode = 1;
    },
  });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
