import { join } from 'node:path';

import { LANE } from './paths.mjs';

/**
 * The kernels that the tests run on: Debian's own builds, taken as they are, and one of our own from Debian's sources, for what
 * Debian leaves out.
 *
 * @typedef {object} Series
 * @property {string} name what `--kernel` and VFIO_RX_KERNEL_SERIES call it
 * @property {RegExp} release what `uname -r` prints; its groups make the build's number, and the newest in the archive is taken
 * @property {string | undefined} suite the archive's suite that has it; undefined for what the machine's own apt knows
 * @property {string} source the package with the sources
 * @property {(release: string) => string} [kbuild] the package with the build tools; undefined where the kernel is built here
 * @property {string} [config] path of the configuration of a kernel that is built here
 * @property {RegExp} tests which test files run on it, unless told otherwise
 * @property {boolean} [iommu] false: the kernel is told not to use the machine's IOMMU
 * @property {readonly string[]} lacks modules of the lane's lists that this series has made part of others
 * @property {number} megabytes to download
 */

/** Not what Debian's kernels have no use for, nor what plays on software devices in virtual time: no kernel makes a difference to it. */
const debiansTests = /^(?!test\/kernel\/(cdev.*|noiommu|mock-iommu)\.test\.ts$|test\/port\/(broken|recorded|replay)\.test\.ts$)/;
/** The examples use nothing that the kernels have differently: one has them all. */
const earlierTests = /^(?!test\/kernel\/(cdev.*|noiommu|mock-iommu|examples)\.test\.ts$|test\/port\/(broken|recorded|replay)\.test\.ts$)/;

/** @type {Series} */
const linux61 = {
  name: '6.1',
  release: /^6\.1\.0-(\d+)-amd64$/,
  suite: undefined,
  source: 'linux-source-6.1',
  kbuild: () => 'linux-kbuild-6.1',
  tests: earlierTests,
  lacks: [],
  megabytes: 85,
};

/** @type {Series} */
const linux612 = {
  name: '6.12',
  release: /^6\.12\.(\d+)\+deb12(\.\d+)?-amd64$/,
  suite: 'bookworm-backports',
  source: 'linux-source-6.12',
  kbuild: (release) => `linux-kbuild-${release.replace(/-amd64$/, '')}`,
  tests: debiansTests,
  lacks: ['fscache', 'vfio_virqfd'],
  megabytes: 122,
};

/**
 * 6.12 with iommufd and the devices' own files: the groups' tests have run on the kernels above, here is what opens by cdev.
 *
 * @type {Series}
 */
const linuxCdev = {
  name: 'cdev',
  release: /^6\.12\.(\d+)-cdev-[0-9a-f]{8}$/,
  suite: 'bookworm-backports',
  source: 'linux-source-6.12',
  config: join(LANE, 'cdev.config'),
  tests: /^test\/(port\/kernel|kernel\/(cdev.*|access|close|dma|dma-pci|edu|inherit|irqs|mappings|mtty.*|remap|remap-rows|migration-rules|migrate-mtty|saved-state-mtty))\.test\.ts$/,
  lacks: ['fscache', 'vfio_virqfd', 'virtio_pci_legacy_dev'],
  megabytes: 150,
};

/**
 * The same without an IOMMU: noiommu mode, and the kernel's own mock of an IOMMU, which knows no other beside it.
 *
 * @type {Series}
 */
const linuxWithout = { ...linuxCdev, name: 'cdev-no-iommu', iommu: false, tests: /^test\/kernel\/(noiommu|mock-iommu)\.test\.ts$/ };

/** The first one is what a single run takes unless told otherwise. */
export const ALL_SERIES = [linux61, linux612, linuxCdev, linuxWithout];

/** @param {string | undefined} name @returns {Series | undefined} */
export function seriesNamed(name) {
  return ALL_SERIES.find((series) => series.name === (name ?? linux61.name));
}
