import { defer, finalize } from 'rxjs';
import { mapAnonymous, type MappedMemory } from '../linux/mapped-memory.js';
import type { Syscalls } from '../linux/syscalls.js';
import type { Call } from '../port.js';

/** A call whose argument points to memory: that lives until the call has returned, whoever listens. */
export function pointing<T>(bytes: number, calls: Syscalls, call: (memory: MappedMemory) => Call<T>): Call<T> {
  return defer(() => {
    const memory = mapAnonymous(bytes, calls);
    return call(memory).pipe(finalize(() => memory.close()));
  });
}
