import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { ALL_SERIES } from '../kernel/kernels.mjs';
import { provideKernel } from '../kernel/packages.mjs';
import { LaneUnavailable, emptyOutcome } from '../outcome.mjs';
import { bootGuest } from './guest.mjs';
import { provideQemu } from './packages.mjs';
import { noise, serveExample } from './server.mjs';

/**
 * The `qemu` lane: QEMU's vfio-user client attaches devices that were written here, and an unmodified Linux drives them by its own drivers.
 */

const DEADLINE_S = 150;
const KIB_EACH_WAY = 64;
const BYTES_EACH_WAY = KIB_EACH_WAY * 1024;
const BLOCKS_OF_RANDOM = 16;
const RANDOM_BYTES = BLOCKS_OF_RANDOM * 256;

/**
 * @typedef {ReadonlyMap<string, string>} Values what the guest has said
 *
 * @typedef {object} Servers
 * @property {import('./server.mjs').Server} uart
 * @property {import('./server.mjs').Server} rng
 * @property {string} typed the sum of what was typed into the serial port
 *
 * @typedef {object} Boot
 * @property {string} name
 * @property {ReadonlyArray<'uart' | 'rng'>} devices
 * @property {boolean} sharedMemory
 * @property {Readonly<Record<string, (values: Values, servers: Servers) => void>>} tests
 */

/** @type {readonly Boot[]} */
const BOOTS = [
  {
    name: 'a guest whose memory is shared',
    devices: ['uart', 'rng'],
    sharedMemory: true,
    tests: {
      '8250_pci finds the serial port': (values) => assert.match(values.get('port') ?? '', /^\/dev\/ttyS\d+$/),
      [`8250_pci sends ${KIB_EACH_WAY} KiB`]: (values, { uart }) => {
        assert.equal(values.get('sent-bytes'), String(BYTES_EACH_WAY));
        assert.deepEqual(uart.printed(), { bytes: BYTES_EACH_WAY, sha256: sum(values.get('sent')) });
      },
      [`8250_pci receives ${KIB_EACH_WAY} KiB`]: (values, { typed }) => {
        assert.equal(values.get('received-bytes'), String(BYTES_EACH_WAY));
        assert.equal(sum(values.get('received')), typed);
      },
      'virtio_rng feeds hwrng by DMA to mapped memory': feedsHwrng,
    },
  },
  {
    name: 'a guest whose memory is reached by messages',
    devices: ['rng'],
    sharedMemory: false,
    tests: { 'virtio_rng feeds hwrng by DMA messages': feedsHwrng },
  },
];

/** @type {Readonly<Record<'uart' | 'rng', string>>} */
const TASKS = { uart: `uart=${KIB_EACH_WAY}`, rng: `rng=${BLOCKS_OF_RANDOM}` };

/** @param {Values} values */
function feedsHwrng(values) {
  assert.equal(values.get('rng-current'), 'virtio_rng.0');
  assert.equal(values.get('rng-available'), 'virtio_rng.0', 'the guest has another source');
  assert.equal(values.get('random-bytes'), String(RANDOM_BYTES));
  assert.ok(Number(values.get('random-packed')) >= RANDOM_BYTES, `random bytes do not get smaller: ${values.get('random-packed')}`);
}

/** @param {string | undefined} line of sha256sum */
function sum(line) {
  return line?.split(' ')[0];
}

/**
 * @param {{ files: readonly string[], testName: string | undefined }} selection files are those of the other lanes
 * @returns {Promise<import('../outcome.mjs').Outcome>}
 */
export async function runQemuTests({ files, testName }) {
  const outcome = emptyOutcome();
  const pattern = new RegExp(testName ?? '');
  const chosen = files.length > 0 ? [] : BOOTS.map((boot) => ({ ...boot, wanted: Object.entries(boot.tests).filter(([name]) => pattern.test(name)) })).filter(({ wanted }) => wanted.length > 0);
  if (chosen.length === 0) return outcome;
  const [series] = ALL_SERIES;
  if (series === undefined) throw new LaneUnavailable('there is no kernel');
  const [qemu, kernel] = [await provideQemu(), await provideKernel(series)];
  const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-qemu-'));
  const { data, sha256: typed } = noise(BYTES_EACH_WAY);
  /** @type {import('./server.mjs').Server[]} */
  const running = [];
  try {
    // One after the other client is served by the same servers.
    const uart = await serveExample('09-device-for-qemu', join(folder, 'uart.sock'), data);
    running.push(uart);
    const rng = await serveExample('12-virtio-rng', join(folder, 'rng.sock'));
    running.push(rng);
    const servers = { uart, rng, typed };
    for (const { name, devices, sharedMemory, wanted } of chosen) {
      const sockets = devices.map((device) => servers[device].path);
      const { values, seconds, trouble } = await bootGuest({ qemu, kernel, sockets, tasks: devices.map((device) => TASKS[device]), sharedMemory, deadlineS: DEADLINE_S });
      process.stdout.write(`  ${name}: ${seconds.toFixed(1)} s${values.has('irqs') ? `, irq ${values.get('irqs')}` : ''}\n`);
      const why = trouble === undefined ? undefined : `${trouble}\n--- servers ---\n${uart.said()}${rng.said()}`;
      for (const [test, body] of wanted) {
        try {
          if (why !== undefined) throw new Error(why);
          body(values, servers);
          outcome.passed += 1;
          process.stdout.write(`  passed: ${test}\n`);
        } catch (error) {
          outcome.failures.push({ test, message: String(error instanceof Error ? error.message : error) });
        }
      }
    }
  } finally {
    for (const server of running) server.end();
    rmSync(folder, { recursive: true, force: true });
  }
  return outcome;
}
