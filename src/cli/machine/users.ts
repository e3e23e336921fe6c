import { linkedPath, namesIn, textOf, type Machine } from './machine.js';

/** A process that has a file open. */
export interface FileUser {
  readonly pid: number;
  readonly command: string;
  readonly path: string;
}

/** Who has one of these files open, as far as this user may see (root sees all). */
export function usersOf(machine: Machine, paths: readonly string[]): readonly FileUser[] {
  const processes = namesIn(machine, '/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  return processes.flatMap((pid) => {
    const open = new Set(namesIn(machine, `/proc/${pid}/fd`).map((fd) => linkedPath(machine, `/proc/${pid}/fd/${fd}`)));
    return paths.filter((path) => open.has(path)).map((path) => ({ pid: Number(pid), command: textOf(machine, `/proc/${pid}/comm`) ?? '?', path }));
  });
}
