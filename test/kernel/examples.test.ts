import { describe, expect, it } from 'vitest';
import { ExampleRun } from '../support/example-run.js';
import { nothingHeld, SampleMdev } from '../support/mdev.js';
import { arcsIn } from '../support/trace-sections.js';

/** On an emulated processor node takes its time to start. */
const patienceMs = 60_000;

describe('the examples with --device, on a device of the sample driver', () => {
  it('01-watch-irqs sees the messages of each vector', { timeout: patienceMs }, async () => {
    using sample = new SampleMdev();
    const run = new ExampleRun('01-watch-irqs', '--device', sample.uuid);
    await run.says(/^watching irq 1 .*: 4 vectors$/);
    sample.write('raise_msi', 0b0001);
    await run.says(/^vector 0: 1 signal$/);
    sample.write('raise_msi', 0b1100);
    await run.says(/^vector 2: 1 signal$/);
    await run.says(/^vector 3: 1 signal$/);
    run.interrupt();
    expect(await run.ended).toMatchObject({ code: 0, errors: '', lines: { length: 5, 4: `closing ${sample.uuid}: it is running` } });
    expect(sample.held()).toEqual(nothingHeld);
  });

  it('02-serve-remaps serves what is demanded, and the driver has its acks', { timeout: patienceMs }, async () => {
    using sample = new SampleMdev({ ackTimeoutMs: 20_000 });
    const run = new ExampleRun('02-serve-remaps', '--device', sample.uuid);
    await run.says(/^batch 0 \(registered\): region 0 \+65536, region 1 \+65536 /);
    sample.write('revoke', 0);
    await run.says(/^batch 1 \(signal\): region 0 -65536, acked /);
    sample.write('restore', 0);
    await run.says(/^batch 2 \(signal\): region 0 \+65536, acked /);
    expect([sample.read('sent'), sample.read('acked'), sample.read('violations')]).toEqual(['2', '2', '0']);
    run.interrupt();
    expect(await run.ended).toMatchObject({ code: 0, errors: '' });
    expect(sample.held()).toEqual(nothingHeld);
  });

  it('03-migrate-one moves one device to another', { timeout: patienceMs }, async () => {
    using source = new SampleMdev({ ackTimeoutMs: 20_000 });
    using destination = new SampleMdev({ ackTimeoutMs: 20_000 });
    const { code, lines, errors } = await new ExampleRun('03-migrate-one', '--device', source.uuid, '--to', destination.uuid).ended;
    expect([code, errors]).toEqual([0, '']);
    expect(lines).toContain('moved: stop');
    expect(lines.slice(-2)).toEqual([`closing ${source.uuid}: it is stop`, `closing ${destination.uuid}: it is running`]);
    expect([arcsIn(source.trace()), arcsIn(destination.trace())]).toEqual([['RUNNING>PRE_COPY', 'PRE_COPY>STOP_COPY', 'STOP_COPY>STOP'], ['RUNNING>RESUMING', 'RESUMING>STOP', 'STOP>RUNNING']]);
    expect([source.held(), destination.held()]).toEqual([nothingHeld, nothingHeld]);
  });
});
