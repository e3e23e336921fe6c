import { existsSync, readFileSync, writeFileSync } from 'node:fs';

import { start } from '../children.mjs';

/**
 * A compressed kernel unpacks itself, which takes about five seconds when every instruction is emulated. QEMU starts
 * an uncompressed one directly (through its PVH note), so it is unpacked here, once.
 */

/** The first bytes of a payload, and what unpacks it. */
const FORMATS = [
  { magic: 'fd377a585a', program: 'xz' },
  { magic: '28b52ffd', program: 'zstd' },
];

/** Offsets in the x86 boot protocol's setup header (Documentation/arch/x86/boot.rst). */
const SETUP_SECTORS = 0x1f1;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const SECTOR = 512;

/** Behind the payload stands its unpacked size, which must not be taken for more of it. */
const SIZE_FIELD = 4;

/**
 * Writes the kernel proper beside its compressed image.
 *
 * @param {string} compressed path of the vmlinuz
 * @param {string} target path of the vmlinux
 * @param {NodeJS.ProcessEnv} env where the programs are found
 * @returns {Promise<boolean>} false when it cannot be unpacked here; the compressed image works too
 */
export async function unpackVmlinux(compressed, target, env) {
  const image = readFileSync(compressed);
  const begin = ((image[SETUP_SECTORS] || 4) + 1) * SECTOR + image.readUInt32LE(PAYLOAD_OFFSET);
  const payload = image.subarray(begin, begin + image.readUInt32LE(PAYLOAD_LENGTH) - SIZE_FIELD);
  const format = FORMATS.find(({ magic }) => payload.toString('hex', 0, 8).startsWith(magic));
  if (format === undefined) return false;
  const unpacked = await filter(format.program, ['--decompress', '--stdout'], payload, env);
  if (unpacked === undefined || unpacked.subarray(1, 4).toString() !== 'ELF') return false;
  writeFileSync(target, unpacked);
  return true;
}

/**
 * The image to boot: the unpacked one where there is one.
 *
 * @param {string} folder
 * @param {string} release
 */
export function bootImage(folder, release) {
  const unpacked = `${folder}/vmlinux-${release}`;
  return existsSync(unpacked) ? unpacked : `${folder}/vmlinuz-${release}`;
}

/**
 * @param {string} command
 * @param {readonly string[]} args
 * @param {Buffer} input
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<Buffer | undefined>} what it printed, or undefined when it failed or does not exist
 */
export function filter(command, args, input, env) {
  return new Promise((resolve) => {
    const child = start(command, args, { stdio: ['pipe', 'pipe', 'ignore'], env });
    /** @type {Buffer[]} */
    const chunks = [];
    child.stdout?.on('data', (chunk) => chunks.push(chunk));
    child.once('error', () => resolve(undefined));
    child.once('close', (code) => resolve(code === 0 ? Buffer.concat(chunks) : undefined));
    child.stdin?.on('error', () => resolve(undefined)).end(input);
  });
}
