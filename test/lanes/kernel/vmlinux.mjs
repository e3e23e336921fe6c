import { existsSync, readFileSync, writeFileSync } from 'node:fs';

import { start } from '../children.mjs';

/**
 * A compressed kernel unpacks itself, which takes about five seconds when every instruction is emulated. QEMU starts
 * an uncompressed one directly (through its PVH note), so it is unpacked here, once.
 */

/** Offsets in the x86 boot protocol's setup header (Documentation/arch/x86/boot.rst). */
const SETUP_SECTORS = 0x1f1;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const SECTOR = 512;

/**
 * Writes the kernel proper beside its compressed image.
 *
 * @param {string} compressed path of the vmlinuz
 * @param {string} target path of the vmlinux
 * @returns {Promise<boolean>} false when it cannot be unpacked here (no xz); the compressed image works too
 */
export async function unpackVmlinux(compressed, target) {
  const image = readFileSync(compressed);
  const begin = ((image[SETUP_SECTORS] || 4) + 1) * SECTOR + image.readUInt32LE(PAYLOAD_OFFSET);
  const payload = image.subarray(begin, begin + image.readUInt32LE(PAYLOAD_LENGTH));
  // The payload is one xz stream with the unpacked size after it, which xz must not take for a second stream.
  const unpacked = await filter('xz', ['--decompress', '--stdout', '--single-stream'], payload);
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
 * @returns {Promise<Buffer | undefined>}
 */
function filter(command, args, input) {
  return new Promise((resolve) => {
    const child = start(command, args, { stdio: ['pipe', 'pipe', 'ignore'] });
    /** @type {Buffer[]} */
    const chunks = [];
    child.stdout?.on('data', (chunk) => chunks.push(chunk));
    child.once('error', () => resolve(undefined));
    child.once('close', (code) => resolve(code === 0 ? Buffer.concat(chunks) : undefined));
    child.stdin?.on('error', () => resolve(undefined)).end(input);
  });
}
