import { accessSync, constants, existsSync, readdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';
import { basename, join } from 'node:path';

/** The machine as its files show it. Paths are given as they are on it, `/sys/...`; a test has a tree of its own below `root`. */
export interface Machine {
  readonly root: string;
  /** Whether this user may read and write a file, which may not be there. */
  readonly mayUse: (path: string) => boolean;
  /** Commands need no sudo. */
  readonly asRoot: boolean;
}

export const thisMachine: Machine = {
  root: '/',
  mayUse: (path) => answered(() => {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  }) === true,
  asRoot: process.getuid?.() === 0,
};

/** What stands in a file, without white space around it. What cannot be read is not there: of files that others change nothing else can be said. */
export function textOf({ root }: Machine, path: string): string | undefined {
  return answered(() => readFileSync(join(root, path), 'utf8').trim());
}

export function namesIn({ root }: Machine, path: string): readonly string[] {
  return answered(() => readdirSync(join(root, path)).sort()) ?? [];
}

/** The last name in what a link leads to. */
export function linkedName({ root }: Machine, path: string): string | undefined {
  return answered(() => basename(readlinkSync(join(root, path))));
}

/** Where a link leads. */
export function linkedPath({ root }: Machine, path: string): string | undefined {
  return answered(() => readlinkSync(join(root, path)));
}

/** Where a path really is, seen from the root of the machine. */
export function realPath({ root }: Machine, path: string): string | undefined {
  return answered(() => {
    const real = realpathSync(join(root, path));
    return `/${real.slice(realpathSync(root).length).replace(/^\//, '')}`;
  });
}

export function isThere({ root }: Machine, path: string): boolean {
  return existsSync(join(root, path));
}

export function mayUse({ root, mayUse: may }: Machine, path: string): boolean {
  return may(join(root, path));
}

function answered<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
