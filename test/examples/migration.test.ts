import { describe, expect, it, vi } from 'vitest';

/** What an example prints. */
async function printed(name: string): Promise<readonly string[]> {
  const lines: string[] = [];
  const log = vi.spyOn(console, 'log').mockImplementation((...words: readonly unknown[]) => void lines.push(words.join(' ')));
  try {
    await import(/* @vite-ignore */ `../../examples/migration/${name}.ts`);
  } finally {
    log.mockRestore();
  }
  return lines;
}

describe('the examples of migration', () => {
  it('one device', async () => {
    const lines = await printed('one-device');
    expect(lines.at(-1)).toBe('moved: "the state of vf0" running at the destination, the source is in stop');
  });

  it('several devices', async () => {
    const text = (await printed('several-devices')).join('\n');
    expect(text).toMatch(/^vf2$/m);
    expect(text).toMatch(/moved: nothing ran for \d+ ms$/);
  });

  it('an own policy', async () => {
    expect((await printed('own-policy')).slice(-3)).toEqual(['policy: again', 'policy: switch-over', 'moved']);
  });

  it('given up in the middle', async () => {
    const lines = await printed('abort');
    expect(lines.at(-1)).toBe('source: VFIO_E_ABORTED, and it is running; destination: VFIO_E_PEER');
  });

  it('resolved after the source has died', async () => {
    expect(await printed('resolve')).toEqual(["in-doubt at both: the source's device is in stop-copy, the destination's in stop", 'source, started again: moved', 'destination: moved, its device is in running']);
  });
});
