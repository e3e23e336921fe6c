import { textOf, type Machine } from './machine.js';

/** Where distributions have the list of PCI ids. */
const files = ['/usr/share/misc/pci.ids', '/usr/share/hwdata/pci.ids'];

/** The numbers by which a PCI function says what it is, lower case hex: 4, 4 and 6 digits. */
export interface PciIds {
  readonly vendor: string;
  readonly device: string;
  readonly class: string;
}

/** Names of PCI functions; undefined where the list does not know one, or the machine has no list. */
export type PciNames = (ids: PciIds) => string | undefined;

export function pciNames(machine: Machine): PciNames {
  const list = files.map((path) => textOf(machine, path)).find((text) => text !== undefined);
  return list === undefined ? () => undefined : namesFrom(list);
}

/**
 * Reads the format of pci.ids: a vendor at the begin of a line, its devices below it after one tab; classes as `C xx`, their
 * subclasses below them. Where the device is unknown its class and vendor still say something.
 */
export function namesFrom(list: string): PciNames {
  const text = `\n${list.replaceAll('\r', '')}\n`;
  return ({ vendor, device, class: code }) => {
    const made = block(text, `\n${vendor}  `);
    const kind = block(text, `\nC ${code.slice(0, 2)}  `);
    const what = entry(made, device) ?? entry(kind, code.slice(2, 4)) ?? kind?.title;
    const words = [made?.title, what].filter((word) => word !== undefined);
    return words.length === 0 ? undefined : words.join(' ');
  };
}

interface Block {
  readonly title: string;
  readonly rows: string;
}

function block(text: string, head: string): Block | undefined {
  const at = text.indexOf(head);
  if (at < 0) return undefined;
  const [title = ''] = text.slice(at + head.length).split('\n', 1);
  const rows = text.slice(at + head.length + title.length);
  const end = rows.search(/\n[^\t#\n]/);
  return { title, rows: end < 0 ? rows : rows.slice(0, end) };
}

function entry(found: Block | undefined, id: string): string | undefined {
  const head = `\n\t${id}  `;
  const at = found?.rows.indexOf(head) ?? -1;
  return at < 0 ? undefined : found?.rows.slice(at + head.length).split('\n', 1)[0];
}
