import { randomUUID } from 'node:crypto';
import { closeSync, constants, existsSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import type { State } from '../../src/devices/port.js';
import { stateName } from '../../src/devices/uapi/migration-state.js';
import { loadModule } from './modules.js';

/**
 * A serial port of the kernel's sample driver mtty: a mediated PCI function with INTx and MSI and nothing to map. The
 * lane builds it for test files that are named after it.
 */
export class Mtty implements Disposable {
  readonly uuid = randomUUID();

  constructor() {
    loadModule('mtty');
    writeFileSync('/sys/class/mtty/mtty/mdev_supported_types/mtty-1/create', this.uuid);
  }

  [Symbol.dispose](): void {
    writeFileSync(`/sys/bus/mdev/devices/${this.uuid}/remove`, '1');
  }
}

/** What keeps the driver from being unloaded: open devices, and data_fds that somebody has open. */
export function mttyUsers(): number {
  return Number(readFileSync('/sys/module/mtty/refcnt', 'utf8'));
}

/** One arc of device_state that the driver began. */
export interface MttyArc {
  readonly uuid: string;
  readonly from: State;
  readonly to: State;
}

const dynamicDebug = '/proc/dynamic_debug/control';

/** From now on the driver says each arc into the kernel's log (its own debug messages, off unless asked for). */
export function logMttyArcs(): void {
  loadModule('mtty');
  // A kernel without this file lets it say them anyway.
  if (existsSync(dynamicDebug)) writeFileSync(dynamicDebug, 'module mtty func mtty_step_state +p');
}

/** The arcs of these devices, in the order in which the driver began them. */
export function mttyArcs(mttys: readonly Mtty[]): readonly MttyArc[] {
  return kernelLog().flatMap((line) => {
    const [, uuid, from, to] = /;mtty ([0-9a-f-]{36}): mtty_step_state: (\d) -> (\d)/.exec(line) ?? [];
    return uuid !== undefined && mttys.some((mtty) => mtty.uuid === uuid) ? [{ uuid, from: stateName(Number(from)), to: stateName(Number(to)) }] : [];
  });
}

function kernelLog(): readonly string[] {
  const fd = openSync('/dev/kmsg', constants.O_RDONLY | constants.O_NONBLOCK);
  const lines: string[] = [];
  const record = Buffer.alloc(8192);
  try {
    for (;;) lines.push(record.toString('utf8', 0, readSync(fd, record)));
  } catch (error) {
    // One record a read, until there is none now.
    if (!(error instanceof Error && 'code' in error && error.code === 'EAGAIN')) throw error;
  } finally {
    closeSync(fd);
  }
  return lines;
}
