import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { start } from '../children.mjs';
import { archive, directory, program, symlink } from '../kernel/cpio.mjs';
import { modulesNamed } from '../kernel/initramfs.mjs';
import { bootImage } from '../kernel/vmlinux.mjs';

const INIT = fileURLToPath(new URL('init', import.meta.url));

/** 8250_pci and the core of hw_random are built in. */
const MODULES = ['virtio_ring', 'virtio', 'virtio_pci_modern_dev', 'virtio_pci_legacy_dev', 'virtio_pci', 'virtio-rng'];

const APPLETS = ['sh', 'mount', 'insmod', 'readlink', 'stty', 'dd', 'wc', 'sha256sum', 'cat', 'head', 'grep', 'gzip', 'sleep'];

const MEGABYTES = 128;
const CONSOLE_TAIL_LINES = 40;

/**
 * @typedef {object} Boot
 * @property {import('./packages.mjs').Qemu} qemu
 * @property {import('../kernel/packages.mjs').Kernel} kernel
 * @property {readonly string[]} sockets of the servers of its devices
 * @property {readonly string[]} tasks what the guest shall do, see `init`
 * @property {boolean} sharedMemory QEMU hands over the guest's memory as a file; else it is reached by messages
 * @property {number} deadlineS
 *
 * @typedef {object} Said
 * @property {ReadonlyMap<string, string>} values
 * @property {number} seconds
 * @property {string | undefined} trouble the guest did not come to its end: why, with the end of its console
 */

/**
 * A small Linux with vfio-user devices, from its start to its end.
 *
 * @param {Boot} boot
 * @returns {Promise<Said>}
 */
export async function bootGuest({ qemu, kernel, sockets, tasks, sharedMemory, deadlineS }) {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-guest-'));
  const image = join(folder, 'initramfs');
  writeFileSync(image, await initramfs(kernel));
  const memory = sharedMemory ? ['-object', `memory-backend-memfd,id=memory,size=${MEGABYTES}M,share=on`, '-M', 'q35,memory-backend=memory'] : ['-M', 'q35'];
  const machine = start('setpriv', [
    '--pdeathsig', 'KILL', qemu.program, ...qemu.before, ...memory,
    '-m', `${MEGABYTES}M`, '-accel', 'tcg,thread=multi', '-cpu', 'max', '-nodefaults', '-display', 'none', '-no-reboot', '-serial', 'stdio',
    '-kernel', bootImage(join(kernel.tree, 'boot'), kernel.release), '-initrd', image,
    '-append', ['console=ttyS0', 'quiet', 'panic=-1', 'no_timer_check', 'mitigations=off', ...tasks].join(' '),
    ...sockets.flatMap((path) => ['-device', JSON.stringify({ driver: 'vfio-user-pci', socket: { type: 'unix', path } })]),
  ], { stdio: ['ignore', 'pipe', 'pipe'], detached: true });

  const began = performance.now();
  let text = '';
  for (const stream of [machine.stdout, machine.stderr]) stream?.setEncoding('utf8').on('data', (chunk) => (text += chunk));
  let expired = false;
  const deadline = setTimeout(() => {
    expired = true;
    machine.kill('SIGKILL');
  }, deadlineS * 1000);
  await new Promise((resolve) => {
    machine.once('error', resolve);
    machine.once('close', resolve);
  });
  clearTimeout(deadline);
  rmSync(folder, { recursive: true });

  const lines = text.replaceAll('\r', '').split('\n');
  const values = new Map(lines.flatMap((line) => {
    const [, name = '', value = ''] = /^guest: (\S+) ?(.*)$/.exec(line) ?? [];
    return name === '' ? [] : [[name, value.trim()]];
  }));
  const why = expired ? `the guest was ended at its deadline of ${deadlineS} s` : values.has('done') ? undefined : 'the guest ended before it was done';
  const tail = `--- console, last lines ---\n${lines.slice(-CONSOLE_TAIL_LINES).join('\n')}`;
  return { values, seconds: (performance.now() - began) / 1000, trouble: why === undefined ? undefined : `${why}\n${tail}` };
}

/** @param {import('../kernel/packages.mjs').Kernel} kernel */
async function initramfs(kernel) {
  const modules = await modulesNamed(kernel, MODULES);
  return archive([
    ...['bin', 'dev', 'proc', 'sys', 'modules'].map(directory),
    program('bin/busybox', readFileSync(join(kernel.tree, 'bin', 'busybox'))),
    ...APPLETS.map((name) => symlink(`bin/${name}`, 'busybox')),
    ...modules.map((path, index) => program(`modules/${String(index).padStart(2, '0')}-${basename(path)}`, readFileSync(path))),
    program('init', readFileSync(INIT)),
  ]);
}
