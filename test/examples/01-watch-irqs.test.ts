import { describe, expect, it } from 'vitest';
import { asShown, ExampleRun } from '../support/example-run.js';

describe('examples/01-watch-irqs', () => {
  it('says every signal by its vector, and ends by itself, as its page shows', async () => {
    expect(await asShown('01-watch-irqs')).toMatchObject({ code: 0, errors: '' });
  });

  it('ends in order when it is interrupted', async () => {
    const run = new ExampleRun('01-watch-irqs');
    await run.says(/^vector 0/);
    run.interrupt();
    expect(await run.ended).toMatchObject({ code: 0, errors: '' });
    expect(run.lines.at(-1)).toBe('closing software0: it is running');
    // Nobody interrupted it 2 s later: then it has 11 lines or so.
    expect(run.lines.length).toBeLessThan(10);
  });

  it('leads to its page by --help', async () => {
    expect(await new ExampleRun('01-watch-irqs', '--help').ended).toMatchObject({ code: 0, errors: '', lines: ['What it shows and takes: examples/01-watch-irqs/README.md'] });
  });

  it('takes the name of its software device', async () => {
    const { code, lines, errors } = await new ExampleRun('01-watch-irqs', '--device', 'software:nic').ended;
    expect([code, errors, lines[0], lines.at(-1)]).toEqual([0, '', 'watching irq 1 of nic: 4 vectors', 'closing nic: it is running']);
  });

  it.each([
    [['x'], 2, "Unexpected argument 'x' (more: examples/01-watch-irqs/README.md)\n"],
    [['--device', 'nobody'], 1, 'VFIO_E_ADDRESS'],
    [['--device', 'trace:nowhere'], 1, 'nowhere: read trace: no such file'],
    [['--device', 'software:nic?every=5'], 2, '"software:nic?every=5" names no device of this example: software, or software:NAME (more: examples/01-watch-irqs/README.md)'],
  ])('says in one line what is wrong with %j', async (args, code, says) => {
    const ended = await new ExampleRun('01-watch-irqs', ...args).ended;
    expect(ended).toMatchObject({ code, lines: [], errors: expect.stringContaining(says) as unknown });
    expect(ended.errors.trimEnd().split('\n').length).toBe(1);
  });
});
