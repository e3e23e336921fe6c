import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

import { archive, directory, program, symlink } from './cpio.mjs';
import { toolsOf } from './packages.mjs';
import { GUEST } from './paths.mjs';
import { filter } from './vmlinux.mjs';

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
 * Paths of modules in the given order, without what is no module in this kernel.
 *
 * @param {import('./packages.mjs').Kernel} kernel
 * @param {readonly string[]} names
 * @returns {Promise<string[]>}
 */
export async function modulesNamed(kernel, names) {
  const root = join(kernel.tree, 'lib', 'modules', kernel.release);
  const ending = /\.ko(\.xz)?$/;
  const files = readdirSync(join(root, 'kernel'), { recursive: true, encoding: 'utf8' }).filter((name) => ending.test(name));
  const paths = new Map(files.map((name) => [basename(name).replace(ending, ''), join(root, 'kernel', name)]));
  const builtIn = new Set(readFileSync(join(root, 'modules.builtin'), 'utf8').split('\n').map((name) => basename(name, '.ko')));
  const found = [];
  for (const name of names) {
    const path = paths.get(name);
    if (path !== undefined) found.push(await unpacked(kernel, path));
    else if (!builtIn.has(name) && !kernel.series.lacks.includes(name)) throw new Error(`the unpacked kernel has no module ${name}.ko`);
  }
  return found;
}

/**
 * busybox cannot load a compressed module, so it is unpacked here, once.
 *
 * @param {import('./packages.mjs').Kernel} kernel
 * @param {string} path
 */
async function unpacked(kernel, path) {
  if (!path.endsWith('.xz')) return path;
  const folder = join(kernel.tree, 'unpacked-modules');
  const target = join(folder, basename(path, '.xz'));
  if (existsSync(target)) return target;
  const bytes = await filter('xz', ['--decompress', '--stdout'], readFileSync(path), toolsOf(kernel.tree));
  if (bytes === undefined) throw new Error(`${path} could not be unpacked`);
  mkdirSync(folder, { recursive: true });
  const partial = `${target}.partial-${process.pid}`;
  writeFileSync(partial, bytes);
  renameSync(partial, target);
  return target;
}

/**
 * Paths of the VFIO modules in loading order.
 *
 * @param {import('./packages.mjs').Kernel} kernel
 */
export function vfioModules(kernel) {
  return modulesNamed(kernel, VFIO);
}

/**
 * The image the kernel starts from: busybox, the modules to mount the host's files, and `guest/init`.
 *
 * @param {import('./packages.mjs').Kernel} kernel
 * @returns {Promise<Buffer>}
 */
export async function initramfs(kernel) {
  const modules = await modulesNamed(kernel, TO_MOUNT);
  return archive([
    ...['bin', 'dev', 'proc', 'sys', 'modules', 'root', 'lower', 'upper'].map(directory),
    program('bin/busybox', readFileSync(join(kernel.tree, 'bin', 'busybox'))),
    ...APPLETS.map((name) => symlink(`bin/${name}`, 'busybox')),
    ...modules.map((path, index) => program(`modules/${String(index).padStart(2, '0')}-${basename(path)}`, readFileSync(path))),
    program('init', readFileSync(join(GUEST, 'init'))),
  ]);
}
