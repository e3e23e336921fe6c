import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository's root; the guest sees it under the same path. */
export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');

/** Everything the lane downloads or builds; ignored by git, safe to delete. */
export const CACHE = join(ROOT, '.cache', 'kernel');

/**
 * A link to the folder of the last run on one kernel: console.log, dmesg.txt, qemu.log, results.
 *
 * @param {string} series
 */
export const lastRun = (series) => join(CACHE, `last-${series}`);

/** This folder. */
export const LANE = join(ROOT, 'test', 'lanes', 'kernel');

/** Scripts that run inside the guest. */
export const GUEST = join(LANE, 'guest');

/** The sample vendor driver. */
export const DRIVER = join(ROOT, 'drivers', 'linux');
