import { mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Observable, type Subscriber } from 'rxjs';
import { koffiBinding } from '../../../src/devices/linux/koffi-binding.js';
import type { LaneRequest, LaneResult } from '../../../src/devices/linux/lane-request.js';
import type { Lane } from '../../../src/devices/linux/lanes.js';
import { Syscalls } from '../../../src/devices/linux/syscalls.js';
import { VfioError } from '../../../src/errors.js';
import type { Call } from '../../../src/devices/port.js';
import { ContainerSpace } from '../../../src/devices/kernel/container-space.js';
import type { KernelPaths } from '../../../src/devices/kernel/discovery.js';
import type { OpenedDevice } from '../../../src/devices/kernel/opened-device.js';
import { faultyBinding, type FaultPlan } from '../../support/faulty-binding.js';

/** A folder that looks like /sys and /dev/vfio, as far as finding and opening a device needs. */
export class KernelTree implements Disposable {
  readonly paths: KernelPaths;
  readonly #root = mkdtempSync(join(tmpdir(), 'vfio-rx-'));

  constructor() {
    this.paths = { sys: join(this.#root, 'sys'), dev: join(this.#root, 'dev'), iommu: join(this.#root, 'dev', 'iommu') };
    mkdirSync(this.paths.sys);
    mkdirSync(this.paths.dev);
  }

  /** A plain file under dev: `vfio`, a group's number, `devices/vfio3`, `iommu`. */
  file(name: string): this {
    mkdirSync(dirname(join(this.paths.dev, name)), { recursive: true });
    writeFileSync(join(this.paths.dev, name), new Uint8Array(65_536));
    return this;
  }

  /** A device on its bus, in a group, bound to a driver; `group` undefined: in none. */
  device(bus: 'mdev' | 'pci', name: string, group: number | undefined, driver?: string): this {
    const device = join(this.paths.sys, 'bus', bus, 'devices', name);
    mkdirSync(device, { recursive: true });
    if (group !== undefined) {
      symlinkSync(`../../../../kernel/iommu_groups/${group}`, join(device, 'iommu_group'));
      const member = join(this.paths.sys, 'kernel/iommu_groups', String(group), 'devices', name);
      mkdirSync(dirname(member), { recursive: true });
      symlinkSync(device, member);
    }
    if (driver !== undefined) symlinkSync(`../../drivers/${driver}`, join(device, 'driver'));
    return this;
  }

  /** A PCI function's own file, as sysfs has it. */
  cdev(device: string, name: string): this {
    const folder = join(this.paths.sys, 'bus/pci/devices', device);
    mkdirSync(join(folder, 'vfio-dev', name), { recursive: true });
    mkdirSync(join(this.paths.sys, 'class/vfio-dev', name), { recursive: true });
    symlinkSync(folder, join(this.paths.sys, 'class/vfio-dev', name, 'device'));
    return this;
  }

  /** Files of this tree that this process has open, by name, in the order of their fds. */
  open(): readonly string[] {
    return this.#fds().map((fd) => readlinkSync(`/proc/self/fd/${fd}`).slice(this.paths.dev.length + 1));
  }

  #fds(): readonly number[] {
    const mine = (fd: string): boolean => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith(this.paths.dev);
      } catch {
        // The directory's own fd is gone by now.
        return false;
      }
    };
    return readdirSync('/proc/self/fd').filter(mine).map(Number);
  }

  /** For a double whose close did not reach the kernel. */
  closeLeft(): void {
    for (const fd of this.#fds()) koffiBinding().close(fd);
  }

  [Symbol.dispose](): void {
    rmSync(this.#root, { recursive: true });
  }
}

/** A device that a group has given out, as it seems; `calls` closes its fd. */
export function openedAs(name: string, fd: number, calls: Syscalls, { container = -1, released = () => undefined }: { readonly container?: number; readonly released?: () => unknown } = {}): OpenedDevice {
  return {
    name,
    fd,
    space: new ContainerSpace(container),
    release: (step) => {
      step('device fd closed', () => calls.close(fd, name));
      step('group given back', () => void released());
    },
  };
}

/** What an ioctl answers: a value, or an errno's name. Its bytes are filled in place. */
export type IoctlDouble = (request: number, argument: number | ArrayBufferView, fd: number) => number | keyof typeof constants.errno;

/** Real system calls but for ioctl; each ioctl and close is told to `log`. */
export function callsWith(ioctl: IoctlDouble, plan: FaultPlan = {}, log: string[] = []): Syscalls {
  const faulty = faultyBinding(koffiBinding(), plan);
  return new Syscalls({
    ...faulty,
    ioctl: (fd, request, argument) => {
      const answer = ioctl(request, argument, fd);
      return typeof answer === 'number' ? answer : -constants.errno[answer];
    },
    close: (fd) => {
      log.push(readlinkSync(`/proc/self/fd/${fd}`));
      return faulty.close(fd);
    },
  });
}

interface LaneCall {
  readonly request: LaneRequest;
  readonly subscriber: Subscriber<LaneResult>;
}

/** Lanes whose calls return when the test says so: the first of each is running, the others wait. */
export class HandLanes {
  readonly #calls = new Map<string, LaneCall[]>();

  lane(name: string): Lane {
    return {
      name,
      submit: (request) =>
        new Observable((subscriber) => {
          this.#calls.set(name, [...this.#of(name), { request, subscriber }]);
        }),
      withdraw: () => {
        const [running, ...waiting] = this.#of(name);
        this.#calls.set(name, running === undefined ? [] : [running]);
        for (const { subscriber } of waiting) subscriber.error(new VfioError('VFIO_E_CLOSED', 'withdrawn', { operation: 'lane' }));
      },
    };
  }

  /** Lanes that have calls, by name, and how many. */
  get out(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.#calls].filter(([, calls]) => calls.length > 0).map(([name, calls]) => [name, calls.length]));
  }

  /** The running call of the lane whose name ends so. */
  running(end: string): LaneRequest {
    return this.#first(end).call.request;
  }

  /** Lets it return. */
  answer(end: string, value: number, bytes: Uint8Array = new Uint8Array(0)): void {
    const { subscriber } = this.#shift(end);
    subscriber.next({ value, errno: undefined, bytes, startedNs: 0n, returnedNs: 0n, seenNs: 0n });
    subscriber.complete();
  }

  /** Lets it fail. */
  fail(end: string, error: VfioError): void {
    this.#shift(end).subscriber.error(error);
  }

  #of(name: string): readonly LaneCall[] {
    return this.#calls.get(name) ?? [];
  }

  #first(end: string): { readonly name: string; readonly call: LaneCall } {
    for (const [name, [call]] of this.#calls) if (name.endsWith(end) && call !== undefined) return { name, call };
    throw new Error(`no call is out on a lane ${end}: ${JSON.stringify(this.out)}`);
  }

  #shift(end: string): LaneCall {
    const { name, call } = this.#first(end);
    this.#calls.set(name, this.#of(name).slice(1));
    return call;
  }
}

/** How a call stands: open, done with its value, or failed with this code. */
export function outcome<T>(call: Call<T>): { get: unknown; value: T | undefined } {
  const seen: { get: unknown; value: T | undefined } = { get: 'open', value: undefined };
  call.subscribe({
    next: (value) => {
      seen.get = 'done';
      seen.value = value;
    },
    error: (error: unknown) => (seen.get = VfioError.is(error) ? error.code : error),
  });
  return seen;
}
