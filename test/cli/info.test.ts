import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lastValueFrom, NEVER } from 'rxjs';
import { afterAll, describe, expect, it } from 'vitest';
import { infoCommand } from '../../src/cli/info.js';
import { recordCommand } from '../../src/cli/record.js';
import { Tree } from './machine/tree.js';

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-info-'));
afterAll(() => rmSync(folder, { recursive: true }));

async function said(device: string, json = false): Promise<string> {
  using tree = new Tree();
  tree.file('/usr/share/misc/pci.ids', 'feed  Sample Makers\n\t0b5e  Region Remap');
  const written: string[] = [];
  expect(await lastValueFrom(infoCommand(tree.machine, device, { write: (text) => written.push(text), json }))).toBe(0);
  return written.join('');
}

describe('vfio-rx info', () => {
  it('says what a device says of itself', async () => {
    const text = await said('software');
    expect(text).toMatch(/^software\d+ {2}PCI, can be reset, running\n {11}Sample Makers Region Remap\n/);
    expect(text.replace(/^.*\n.*\n/, '')).toBe(`
regions
  0  BAR 0         64.0 KiB   rw  mapped: 0x0+0x10000
  1  BAR 1         128.0 KiB  rw  mapped: 0x0+0x8000 0x10000+0x8000
  2  BAR 2         4.0 KiB    rw  trapped only
  7  config space  256 B      rw  trapped only

irqs
  0  intx   1 vector   eventfd maskable automasked
  1  msi    4 vectors  eventfd noresize
  5  remap  1 vector   eventfd maskable region-remap

config space
  ids      feed:0b5e, subsystem 0000:0000
  class    ff0000, revision 00, endpoint
  command  0x0002: memory
  0x40     power management

migration
  version 2: STOP_COPY, P2P, PRE_COPY

dma
  pages        4.0 KiB
  addresses    0x0..0xfedfffff 0xfef00000..0x7fffffffff
  ranges       65535 more
  dirty pages  the IOMMU does not say
`);
  });

  it('says it as one object of JSON', async () => {
    expect(JSON.parse(await said('software:disk?version=1', true))).toMatchObject({
      device: 'disk', state: 'running', migration: { version: 1, flags: ['STOP_COPY', 'PRE_COPY'] },
      regions: [{ index: 0, name: 'BAR 0', size: 2 ** 20 }, { index: 9, name: 'migration' }], irqs: [{ index: 0, kind: 'intx' }, { index: 1, kind: 'msi' }],
      dma: { pageSizes: 4096, available: 65535 },
    });
  });

  it('says of a recorded run what was recorded', async () => {
    const out = join(folder, 'run.jsonl');
    await lastValueFrom(recordCommand({ device: 'software', out, states: [], forMs: 1 }, { write: () => undefined, json: false }, NEVER));
    const text = await said(`trace:${out}`);
    expect(text).toContain('  0  BAR 0         64.0 KiB   rw  mapped: 0x0+0x10000\n');
    expect(text).toContain('\nconfig space\n  not recorded\n');
  });

  it('fails as opening does, and for what names no device', async () => {
    await expect(said('trace:/none.jsonl')).rejects.toMatchObject({ code: 'VFIO_E_ADDRESS' });
    await expect(said('eth0')).rejects.toMatchObject({ code: 'VFIO_E_ADDRESS' });
  });
});
