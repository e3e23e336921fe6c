import { constants } from 'node:os';
import type { Binding } from '../../src/devices/linux/binding.js';

/** Calls whose failure is a negative number (or, for `readCount`, bigint). */
type Faulty = 'open' | 'close' | 'ioctl' | 'read' | 'write' | 'pread' | 'pwrite' | 'mmap' | 'munmap' | 'madvise' | 'eventfd' | 'readCount' | 'writeCount' | 'epollCreate' | 'epollControl' | 'epollWait';

/** For each call, what its 1st, 2nd, ... use answers: an errno's name, or undefined for the real call. Then it is real. */
export type FaultPlan = { readonly [name in Faulty]?: readonly (keyof typeof constants.errno | undefined)[] };

export interface FaultyBinding extends Binding {
  /** How often each call was made. */
  readonly calls: Readonly<Record<string, number>>;
}

/** A binding that fails as planned. A failed call does not reach the kernel. */
export function faultyBinding(binding: Binding, plan: FaultPlan): FaultyBinding {
  const calls: Record<string, number> = {};
  const failure = (name: Faulty): number | undefined => {
    const nth = (calls[name] = (calls[name] ?? 0) + 1);
    const errno = plan[name]?.[nth - 1];
    return errno === undefined ? undefined : -constants.errno[errno];
  };
  return {
    ...binding,
    calls,
    open: (...args) => failure('open') ?? binding.open(...args),
    close: (...args) => failure('close') ?? binding.close(...args),
    ioctl: (...args) => failure('ioctl') ?? binding.ioctl(...args),
    read: (...args) => failure('read') ?? binding.read(...args),
    write: (...args) => failure('write') ?? binding.write(...args),
    pread: (...args) => failure('pread') ?? binding.pread(...args),
    pwrite: (...args) => failure('pwrite') ?? binding.pwrite(...args),
    mmap: (...args) => failure('mmap') ?? binding.mmap(...args),
    munmap: (...args) => failure('munmap') ?? binding.munmap(...args),
    madvise: (...args) => failure('madvise') ?? binding.madvise(...args),
    eventfd: (...args) => failure('eventfd') ?? binding.eventfd(...args),
    readCount(fd) {
      const failed = failure('readCount');
      return failed === undefined ? binding.readCount(fd) : BigInt(failed);
    },
    writeCount: (...args) => failure('writeCount') ?? binding.writeCount(...args),
    epollCreate: (...args) => failure('epollCreate') ?? binding.epollCreate(...args),
    epollControl: (...args) => failure('epollControl') ?? binding.epollControl(...args),
    epollWait: (...args) => failure('epollWait') ?? binding.epollWait(...args),
  };
}
