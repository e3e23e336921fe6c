/**
 * The kernels that the tests run on. Both are Debian's own builds, taken as they are.
 *
 * @typedef {object} Series
 * @property {string} name what `--kernel` and VFIO_RX_KERNEL_SERIES call it
 * @property {RegExp} release what `uname -r` prints; its groups make the build's number, and the newest in the archive is taken
 * @property {string | undefined} suite the archive's suite that has it; undefined for what the machine's own apt knows
 * @property {(release: string) => string} kbuild the package with the build tools
 * @property {readonly string[]} lacks modules of the lane's lists that this series has made part of others
 * @property {number} megabytes to download
 */

/** @type {Series} */
const linux61 = {
  name: '6.1',
  release: /^6\.1\.0-(\d+)-amd64$/,
  suite: undefined,
  kbuild: () => 'linux-kbuild-6.1',
  lacks: [],
  megabytes: 85,
};

/** @type {Series} */
const linux612 = {
  name: '6.12',
  release: /^6\.12\.(\d+)\+deb12(\.\d+)?-amd64$/,
  suite: 'bookworm-backports',
  kbuild: (release) => `linux-kbuild-${release.replace(/-amd64$/, '')}`,
  lacks: ['fscache', 'vfio_virqfd'],
  megabytes: 122,
};

/** The first one is what a single run takes unless told otherwise. */
export const ALL_SERIES = [linux61, linux612];

/** @param {string | undefined} name @returns {Series | undefined} */
export function seriesNamed(name) {
  return ALL_SERIES.find((series) => series.name === (name ?? linux61.name));
}
