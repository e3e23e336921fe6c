import { describe, expect, it } from 'vitest';
import { LiveTable } from '../../src/cli/live-table.js';
import { terminal } from './terminal.js';

const device = (name: string, bytes: bigint, remaining: bigint) => ({ device: name, state: 'pre-copy' as const, bytes, remaining });

describe('the live table', () => {
  it('has a line of what goes on, and a bar for each device; the last state stays', () => {
    const { stream, lines, written } = terminal();
    const table = new LiveTable(stream);
    table.draw({ phase: 'pre-copy', atNs: 0n, rate: 0, devices: [device('vf0', 0n, 4096n), device('vf1', 0n, 0n)] });
    table.draw({ phase: 'transfer', atNs: 5n, rate: 3 << 20, devices: [device('vf0', 3072n, 1024n), device('vf1', 1n << 30n, 0n)] });
    table.stop();
    expect(lines()).toEqual([
      'transfer, 3.0 MiB/s',
      '  vf0              pre-copy     [==================------] 3.0 KiB, 1.0 KiB left',
      '  vf1              pre-copy     [========================] 1.0 GiB',
      '',
    ]);
    expect(written().lastIndexOf('\u001b[?25h')).toBeGreaterThan(written().lastIndexOf('\u001b[?25l'));
  });

  it('draws nothing where nothing was told, and stops twice', () => {
    const { stream, written } = terminal();
    const table = new LiveTable(stream);
    table.stop();
    table.stop();
    expect(written()).toBe('');
  });
});
