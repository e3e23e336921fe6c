/**
 * Writes the kernel's initramfs format ("newc" cpio). Writing it here needs no cpio program and no root: owners and
 * modes are simply what is written.
 */

const DIRECTORY = 0o040755;
const PROGRAM = 0o100755;
const SYMLINK = 0o120777;

/**
 * @typedef {{ name: string, mode: number, data: Buffer }} Entry
 */

/** @param {string} name @returns {Entry} */
export const directory = (name) => ({ name, mode: DIRECTORY, data: Buffer.alloc(0) });

/** @param {string} name @param {Buffer} data @returns {Entry} */
export const program = (name, data) => ({ name, mode: PROGRAM, data });

/** @param {string} name @param {string} target @returns {Entry} */
export const symlink = (name, target) => ({ name, mode: SYMLINK, data: Buffer.from(target) });

/**
 * @param {readonly Entry[]} entries directories before what is in them
 * @returns {Buffer}
 */
export function archive(entries) {
  const end = { name: 'TRAILER!!!', mode: 0, data: Buffer.alloc(0) };
  return Buffer.concat([...entries, end].flatMap((entry, index) => record(entry, index + 1)));
}

/**
 * @param {Entry} entry
 * @param {number} inode
 */
function record(entry, inode) {
  const name = Buffer.from(`${entry.name}\0`);
  const links = 1;
  // ino, mode, uid, gid, nlink, mtime, filesize, dev major and minor, rdev major and minor, namesize, check
  const fields = [inode, entry.mode, 0, 0, links, 0, entry.data.length, 0, 0, 0, 0, name.length, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`;
  const head = Buffer.concat([Buffer.from(header), name]);
  return [head, padding(head.length), entry.data, padding(entry.data.length)];
}

/** @param {number} length */
function padding(length) {
  return Buffer.alloc((4 - (length % 4)) % 4);
}
