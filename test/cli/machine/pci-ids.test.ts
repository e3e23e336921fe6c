import { describe, expect, it } from 'vitest';
import { namesFrom, pciNames } from '../../../src/cli/machine/pci-ids.js';
import { Tree } from './tree.js';

const list = `# a comment
8086  Intel Corporation
\t10d3  82574L Gigabit Network Connection
\t\t103c 1785  a subsystem
# another
\t1533  I210 Gigabit Network Connection
8087  Nobody
1234  Technical Corp.
C 01  Mass storage controller
\t08  Non-Volatile memory controller
C 02  Network controller
\t00  Ethernet controller
`;

describe('pci.ids', () => {
  const nameOf = namesFrom(list);

  it.each([
    ['8086', '10d3', '020000', 'Intel Corporation 82574L Gigabit Network Connection'],
    ['8086', '1533', '020000', 'Intel Corporation I210 Gigabit Network Connection'],
    ['8086', '1785', '020000', 'Intel Corporation Ethernet controller'],
    ['8087', '10d3', '010802', 'Nobody Non-Volatile memory controller'],
    ['1234', '11e8', '01ff00', 'Technical Corp. Mass storage controller'],
    ['ffff', '0000', '020000', 'Ethernet controller'],
  ])('names %s:%s of class %s', (vendor, device, code, name) => expect(nameOf({ vendor, device, class: code })).toBe(name));

  it('says nothing of what it does not know, a comment is no vendor', () => {
    expect(nameOf({ vendor: 'ffff', device: '0000', class: 'ff0000' })).toBeUndefined();
    expect(nameOf({ vendor: '# an', device: 'othe', class: 'ff0000' })).toBeUndefined();
  });

  it.each(['/usr/share/misc/pci.ids', '/usr/share/hwdata/pci.ids', undefined])('is taken from %s', (path) => {
    using tree = new Tree();
    if (path !== undefined) tree.file(path, list.replaceAll('\n', '\r\n'));
    expect(pciNames(tree.machine)({ vendor: '8086', device: '10d3', class: '020000' })).toBe(path === undefined ? undefined : 'Intel Corporation 82574L Gigabit Network Connection');
  });
});
