import { readFileSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';

import { archive, directory, program, symlink } from './cpio.mjs';
import { GUEST } from './paths.mjs';

/** What it takes to mount the host's files, in the order in which it must be loaded. */
const TO_MOUNT = [
  'virtio_ring',
  'virtio',
  'virtio_pci_modern_dev',
  'virtio_pci_legacy_dev',
  'virtio_pci',
  'virtio_console',
  'netfs',
  'fscache',
  '9pnet',
  '9pnet_virtio',
  '9p',
  'overlay',
];

/** The VFIO stack, loaded after that; see `guest/setup.sh`. */
const VFIO = [
  'vfio',
  'vfio_iommu_type1',
  'irqbypass',
  'vfio_virqfd',
  'vfio-pci-core',
  'vfio-pci',
  'mdev',
];

const APPLETS = ['sh', 'mount', 'mkdir', 'insmod', 'switch_root', 'cat', 'cp', 'echo', 'sleep'];

/**
 * @param {import('./packages.mjs').Kernel} kernel
 * @returns {Map<string, string>} module name (as the file is called) to path
 */
function modulesOf(kernel) {
  const folder = join(kernel.tree, 'lib', 'modules', kernel.release, 'kernel');
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ko'));
  return new Map(files.map((name) => [basename(name, '.ko'), join(folder, name)]));
}

/**
 * Paths of the VFIO modules in loading order.
 *
 * @param {import('./packages.mjs').Kernel} kernel
 */
export function vfioModules(kernel) {
  return pick(modulesOf(kernel), VFIO);
}

/**
 * The image the kernel starts from: busybox, the modules to mount the host's files, and `guest/init`.
 *
 * @param {import('./packages.mjs').Kernel} kernel
 * @returns {Buffer}
 */
export function initramfs(kernel) {
  const modules = pick(modulesOf(kernel), TO_MOUNT);
  return archive([
    ...['bin', 'dev', 'proc', 'sys', 'modules', 'root', 'lower', 'upper'].map(directory),
    program('bin/busybox', readFileSync(join(kernel.tree, 'bin', 'busybox'))),
    ...APPLETS.map((name) => symlink(`bin/${name}`, 'busybox')),
    ...modules.map((path, index) => program(`modules/${String(index).padStart(2, '0')}-${basename(path)}`, readFileSync(path))),
    program('init', readFileSync(join(GUEST, 'init'))),
  ]);
}

/**
 * @param {Map<string, string>} modules
 * @param {readonly string[]} names
 */
function pick(modules, names) {
  return names.map((name) => {
    const path = modules.get(name);
    if (path === undefined) throw new Error(`the unpacked kernel has no module ${name}.ko`);
    return path;
  });
}
