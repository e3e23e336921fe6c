import { expect, it } from 'vitest';
import { asShown, ExampleRun } from '../support/example-run.js';

it('examples/03-migrate-one goes through the phases, and the device runs at the destination, as its page shows', async () => {
  expect(await asShown('03-migrate-one')).toMatchObject({ code: 0, errors: '' });
});

it('examples/03-migrate-one wants as many destinations as sources', async () => {
  expect(await new ExampleRun('03-migrate-one', '--device', 'a').ended).toMatchObject({ code: 2, errors: 'each --device needs a --to: where it goes (more: examples/03-migrate-one/README.md)\n' });
  expect(await new ExampleRun('03-migrate-one', '--device', 'a', '--to', 'b', '--device', 'c', '--to', 'd').ended).toMatchObject({ code: 2, errors: 'this example takes one device (more: examples/03-migrate-one/README.md)\n' });
});

it('examples/03-migrate-one takes a software device by that name', async () => {
  const run = await new ExampleRun('03-migrate-one', '--device', 'software:nic', '--to', 'software').ended;
  expect(run).toMatchObject({ code: 0, errors: '' });
  expect(run.lines.slice(-2)).toEqual(['closing nic: it is stop', 'closing to0: it is running']);
});
