import { closeSync, copyFileSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { start } from '../children.mjs';
import { initramfs } from './initramfs.mjs';
import { CACHE, GUEST, lastRun } from './paths.mjs';
import { bootImage } from './vmlinux.mjs';

/**
 * One boot of the virtual machine: a shell script goes in; its output, its exit code and the kernel's state come out.
 *
 * @typedef {object} Job
 * @property {string} qemu the program
 * @property {import('./packages.mjs').Kernel} kernel
 * @property {string} script run by the guest's `sh`, as root
 * @property {number} deadlineS the machine is ended after so many seconds
 * @property {string} share folder that the guest sees as `/run/vfio-rx`; made by {@link newShare}
 * @property {(chunk: Buffer) => void} onStdout
 * @property {(chunk: Buffer) => void} onStderr
 *
 * @typedef {object} Ended
 * @property {number | undefined} code the script's exit code; undefined when the guest did not get so far
 * @property {string | undefined} trouble what went wrong with the guest itself, with the end of its console
 * @property {number} seconds
 */

/** The kernel's taint flags that mean a bug was hit: D (oops), W (warning), L (soft lockup). */
const BUG_FLAGS = { oops: 1 << 7, warning: 1 << 9, 'soft lockup': 1 << 14 };

/** How long before the deadline the guest prints its blocked tasks; its own clock starts when it has booted. */
const WATCHDOG_LEAD_S = 20;

const CONSOLE_TAIL_LINES = 60;

/** QEMU says first why it gives up, and then prints every register. */
const QEMU_HEAD_LINES = 5;

/**
 * Devices for vfio-pci (test/support/pci.ts binds them): an educational one that does DMA, a network card of its own,
 * and two more behind one conventional bridge, which makes them one IOMMU group.
 */
const PCI_DEVICES = [
  'edu',
  // At a higher speed the kernel would wait after a reset for a link that this port never says is up.
  'pcie-root-port,id=root-port,chassis=1,x-speed=2_5',
  'e1000e,bus=root-port,romfile=',
  'i82801b11-bridge,id=bridge',
  'e1000e,bus=bridge,addr=1,romfile=',
  'e1000e,bus=bridge,addr=2,romfile=',
];

/**
 * Makes the folder for one run and points `last-<series>` at it. Folders of earlier runs go, except of those still running.
 *
 * @param {import('./kernels.mjs').Series} series
 * @returns {string}
 */
export function newShare(series) {
  const runs = join(CACHE, 'runs');
  mkdirSync(runs, { recursive: true });
  for (const name of readdirSync(runs)) {
    if (!existsSync(join('/proc', name))) rmSync(join(runs, name), { recursive: true, force: true });
  }
  const name = join('runs', String(process.pid), series.name);
  const share = join(CACHE, name);
  rmSync(share, { recursive: true, force: true });
  mkdirSync(share, { recursive: true });
  const last = lastRun(series.name);
  rmSync(last, { force: true });
  symlinkSync(name, last);
  return share;
}

/**
 * @param {Job} job
 * @returns {Promise<Ended>}
 */
export async function boot(job) {
  const { share } = job;
  const image = join(share, 'initramfs');
  const consoleLog = join(share, 'console.log');
  writeFileSync(image, await initramfs(job.kernel));
  writeFileSync(join(share, 'job.sh'), job.script);
  writeFileSync(join(share, 'settings.sh'), `VFIO_RX_WATCHDOG_S=${Math.max(1, job.deadlineS - WATCHDOG_LEAD_S)}\n`);
  copyFileSync(join(GUEST, 'main.sh'), join(share, 'main.sh'));

  const began = performance.now();
  const messages = openSync(join(share, 'qemu.log'), 'w');
  // The kernel ends the machine with us even when we are killed and no handler of ours runs.
  const machine = start('setpriv', ['--pdeathsig', 'KILL', job.qemu, ...qemuArguments(job, image, consoleLog)], {
    stdio: ['ignore', messages, messages, 'pipe', 'pipe'],
    // Ctrl-C in a terminal goes to the whole group; who ends the machine is decided in one place, by us.
    detached: true,
  });
  closeSync(messages);
  machine.stdio[3]?.on('data', job.onStdout);
  machine.stdio[4]?.on('data', job.onStderr);

  let expired = false;
  const deadline = setTimeout(() => {
    expired = true;
    machine.kill('SIGKILL');
  }, job.deadlineS * 1000);
  /** @type {number} */
  const status = await new Promise((resolve) => {
    machine.once('error', () => resolve(127));
    machine.once('close', (code) => resolve(code ?? 128));
  });
  clearTimeout(deadline);

  const seconds = (performance.now() - began) / 1000;
  const code = readNumber(join(share, 'exit-code'));
  const trouble = describeTrouble({ share, code, status, expired, deadlineS: job.deadlineS });
  return { code, trouble, seconds };
}

/**
 * @param {Job} job
 * @param {string} image
 * @param {string} consoleLog
 */
function qemuArguments(job, image, consoleLog) {
  const commandLine = [
    'console=ttyS0',
    'quiet',
    // A crash ends the machine at once (with -no-reboot), instead of leaving a half-dead one until the deadline.
    'oops=panic',
    'panic=-1',
    `intel_iommu=${job.kernel.series.iommu === false ? 'off' : 'on'}`,
    // On a busy host the guest may not see its own timer tick in time, and would end for that.
    'no_timer_check',
    'mitigations=off',
  ].join(' ');
  return [
    ...['-M', 'q35', '-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '2', '-m', '2G'],
    ...['-device', 'intel-iommu'],
    ...['-nodefaults', '-display', 'none', '-no-reboot'],
    ...['-kernel', bootImage(join(job.kernel.tree, 'boot'), job.kernel.release), '-initrd', image],
    ...['-append', commandLine],
    ...['-chardev', `file,id=console,path=${option(consoleLog)}`, '-serial', 'chardev:console'],
    ...['-device', 'virtio-serial-pci'],
    ...['-chardev', 'socket,id=out,fd=3', '-device', 'virtserialport,chardev=out,name=out'],
    ...['-chardev', 'socket,id=err,fd=4', '-device', 'virtserialport,chardev=err,name=err'],
    ...['-fsdev', 'local,id=host,path=/,readonly=on,security_model=none,multidevs=remap'],
    ...['-device', 'virtio-9p-pci,fsdev=host,mount_tag=host'],
    ...['-fsdev', `local,id=share,path=${option(job.share)},security_model=none`],
    ...['-device', 'virtio-9p-pci,fsdev=share,mount_tag=share'],
    ...PCI_DEVICES.flatMap((device) => ['-device', device]),
  ];
}

/**
 * A comma inside a value of a QEMU option is written twice.
 *
 * @param {string} value
 */
function option(value) {
  return value.replaceAll(',', ',,');
}

/**
 * @param {{ share: string, code: number | undefined, status: number, expired: boolean, deadlineS: number }} end
 * @returns {string | undefined}
 */
function describeTrouble(end) {
  const consoleTail = () => tail(join(end.share, 'console.log'), 'console');
  if (end.expired) {
    return `the guest was ended at its deadline of ${end.deadlineS} s\n${consoleTail()}`;
  }
  if (end.code === undefined) {
    const said = head(join(end.share, 'qemu.log'), 'QEMU');
    return `the guest ended without an exit code (QEMU's own: ${end.status}): it crashed or did not start\n${said}${consoleTail()}`;
  }
  const tainted = readNumber(join(end.share, 'tainted')) ?? 0;
  const bugs = Object.entries(BUG_FLAGS).filter(([, flag]) => (tainted & flag) !== 0);
  if (bugs.length > 0) {
    const names = bugs.map(([name]) => name).join(' and ');
    return `the guest's kernel reported a bug (${names})\n${tail(join(end.share, 'dmesg.txt'), 'kernel messages')}`;
  }
  return undefined;
}

/**
 * @param {string} path
 * @returns {number | undefined}
 */
function readNumber(path) {
  if (!existsSync(path)) return undefined;
  const text = readFileSync(path, 'utf8').trim();
  return /^\d+$/.test(text) ? Number(text) : undefined;
}

/**
 * @param {string} path
 * @param {string} title
 */
function tail(path, title) {
  const lines = linesOf(path);
  return lines.length === 0 ? '' : `--- ${title}, last lines ---\n${lines.slice(-CONSOLE_TAIL_LINES).join('\n')}\n`;
}

/**
 * @param {string} path
 * @param {string} title
 */
function head(path, title) {
  const lines = linesOf(path);
  return lines.length === 0 ? '' : `--- ${title}, first lines ---\n${lines.slice(0, QEMU_HEAD_LINES).join('\n')}\n`;
}

/** @param {string} path */
function linesOf(path) {
  if (!existsSync(path)) return [];
  const text = readFileSync(path, 'utf8').replaceAll('\r', '').trimEnd();
  return text === '' ? [] : text.split('\n');
}
