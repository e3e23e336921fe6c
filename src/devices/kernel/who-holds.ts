import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** More fds than this are not looked at: it is one question of one error. */
const mostFds = 65_536;

/** A file by which a device can be held, and what it means when somebody has it open. */
export interface HoldingFile {
  readonly path: string;
  /** `by its group`, `by its own file`. */
  readonly way: string;
}

/**
 * Which way a device is held, and by which process, as far as /proc shows it to this one: `it is open by its group (/dev/vfio/7), by process 12
 * (qemu)`; undefined where it shows nobody.
 *
 * @param except a fd of this process that does not count
 */
export function whoHolds(files: readonly HoldingFile[], except?: number, proc = '/proc'): string | undefined {
  const found = files.flatMap(({ path, way }) => {
    const holders = holdersOf(path, except, proc);
    return holders.length === 0 ? [] : [`it is open ${way} (${path}), by ${holders.join(' and ')}`];
  });
  return found.length === 0 ? undefined : found.join('; ');
}

function holdersOf(path: string, except: number | undefined, proc: string): readonly string[] {
  let left = mostFds;
  return names(proc).filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
    const mine = Number(pid) === process.pid;
    const fds = names(`${proc}/${pid}/fd`).slice(0, left);
    left -= fds.length;
    const holds = fds.some((fd) => !(mine && Number(fd) === except) && linkOf(`${proc}/${pid}/fd/${fd}`) === path);
    if (!holds) return [];
    return [mine ? 'this process' : `process ${pid}${commandOf(pid, proc)}`];
  });
}

function commandOf(pid: string, proc: string): string {
  // A process names itself: nothing of that may steer the terminal of whoever reads the error.
  const command = quietly(() => readFileSync(`${proc}/${pid}/comm`, 'utf8').trim().replace(/[^ -~]/g, '?'));
  return command === undefined ? '' : ` (${command})`;
}

const linkOf = (path: string): string | undefined => quietly(() => readlinkSync(path));
const names = (path: string): readonly string[] => quietly(() => readdirSync(path)) ?? [];

/** Processes and their fds come and go, and not all may be looked at. */
function quietly<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
