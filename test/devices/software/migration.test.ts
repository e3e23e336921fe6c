import { concatMap, EMPTY, expand, filter, from, map, reduce, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { Call, DataChannel, StateReply } from '../../../src/devices/port.js';
import type { SoftwareDeviceOptions } from '../../../src/devices/software/options.js';
import { migrationInfoLayout } from '../../../src/devices/uapi/migration-info.js';
import { failure, now, opened, registered, traced, watch, type Opened } from './opened.js';

const { device_state, pending_bytes, data_offset, data_size } = migrationInfoLayout;
const still: SoftwareDeviceOptions = { remap: false, mailbox: false };

/** The value of a call that takes some turns. */
function soon<T>({ clock }: Opened, call: Observable<T>): T {
  const seen = watch(call);
  clock.advanceMs(1);
  if (seen.error !== undefined) throw seen.error;
  return seen.values[0] as T;
}

function codeSoon({ clock }: Opened, call: Call<unknown>): string {
  const seen = watch(call);
  clock.advanceMs(1);
  return seen.error?.code ?? 'no error';
}

function dataOf({ data }: StateReply): DataChannel {
  if (data === undefined) throw new Error('no session began');
  return data;
}

/** Everything that the session has to give in this state. */
function readAll(data: DataChannel): Observable<readonly Uint8Array[]> {
  const next = data.read(20_000);
  return next.pipe(
    expand((chunk) => (chunk.kind === 'bytes' ? next : EMPTY)),
    filter((chunk) => chunk.kind === 'bytes'),
    map(({ bytes }) => bytes),
    reduce((all: readonly Uint8Array[], bytes) => [...all, bytes], []),
  );
}

describe.each([1, 2] as const)('device_state of a software device, version %i', (migrationVersion) => {
  const options: SoftwareDeviceOptions = { ...still, migrationVersion };

  it('carries the contents of one device to another', () => {
    const source = opened(options);
    const target = opened(options);
    source.device.driver.writeRegion(1, 0x1234, Uint8Array.from({ length: 5000 }, (_, n) => n % 253));
    const save = dataOf(soon(source, source.port.setState('pre-copy')));
    const early = soon(source, readAll(save));
    expect(soon(source, save.read(1))).toEqual({ kind: 'quiet' });
    soon(source, source.port.setState('stop-copy'));
    const late = soon(source, readAll(save));
    expect(soon(source, save.read(1))).toEqual({ kind: 'end' });

    const resume = dataOf(soon(target, target.port.setState('resuming')));
    soon(target, from([...early, ...late]).pipe(concatMap((bytes) => resume.write(bytes)), reduce((done) => done, undefined)));
    soon(target, target.port.setState('running'));
    expect(target.device.driver.readRegion(1, 0, 0x2_0000)).toEqual(source.device.driver.readRegion(1, 0, 0x2_0000));
    expect([codeSoon(source, source.port.setState('stop')), codeSoon(source, save.read(1)), codeSoon(target, resume.write(Uint8Array.of(1)))]).toEqual(['no error', 'VFIO_E_NO_DEVICE', 'VFIO_E_NO_DEVICE']);
    expect([...traced(source.device, 'state'), ...traced(target.device, 'state')]).toEqual([
      'state from=running to=pre-copy ret=0', 'state from=pre-copy to=stop-copy ret=0', 'state from=stop-copy to=stop ret=0',
      'state from=running to=resuming ret=0', 'state from=resuming to=running ret=0',
    ]);
  });

  it('takes in one write what came in many reads', () => {
    const source = opened(options);
    const target = opened(options);
    source.device.driver.writeRegion(1, 0, Uint8Array.from({ length: 0x2_0000 }, (_, n) => n % 249));
    const save = dataOf(soon(source, source.port.setState('stop-copy')));
    const all = Buffer.concat([...soon(source, readAll(save))]);
    const resume = dataOf(soon(target, target.port.setState('resuming')));
    soon(target, resume.write(all));
    soon(target, target.port.setState('running'));
    expect(target.device.driver.readRegion(1, 0, 0x2_0000)).toEqual(source.device.driver.readRegion(1, 0, 0x2_0000));
  });

  it('refuses a stream that is not whole when RESUMING is left, and stays there', () => {
    const target = opened(options);
    const resume = dataOf(soon(target, target.port.setState('resuming')));
    soon(target, resume.write(Uint8Array.of(1, 2, 3)));
    expect(codeSoon(target, target.port.setState('running'))).toBe('VFIO_E_IO');
    expect(soon(target, target.port.getState())).toBe('resuming');
    soon(target, target.port.reset());
    expect(soon(target, target.port.getState())).toBe('running');
    expect(codeSoon(target, resume.write(Uint8Array.of(1)))).toBe('VFIO_E_NO_DEVICE');
  });

  it('refuses an arc that is none before the driver is asked', () => {
    const all = opened(options);
    soon(all, all.port.setState('stop-copy'));
    expect(codeSoon(all, all.port.setState('pre-copy'))).toBe('VFIO_E_ARC');
    expect(traced(all.device, 'state')).toHaveLength(1);
  });

  it('waits for the ack, and goes nowhere without it', () => {
    const all = registered({ migrationVersion, remap: { ackTimeoutMs: 20 } });
    const next = watch(all.irq.next());
    const set = watch(all.port.setState('pre-copy'));
    all.clock.advanceMs(1);
    expect([set.complete, all.device.driver.waiters, next.values.length]).toEqual([false, 1, 1]);
    expect(all.device.driver.state).toBe('running');
    now(all.irq.ack(1n));
    all.clock.advanceMs(1);
    expect(set.values.map(({ state, data }) => [state, data?.direction])).toEqual([['pre-copy', 'save']]);
    const unheard = watch(all.port.setState('running'));
    all.clock.advanceMs(1);
    expect(unheard.complete).toBe(true);
    all.device.driver.faults.ignoreAcks = true;
    const timedOut = watch(all.port.setState('stop-copy'));
    all.clock.advanceMs(30);
    expect([timedOut.error?.code, soon(all, all.port.getState())]).toEqual(['VFIO_E_ACK_TIMEOUT', 'running']);
  });

  it('is refused while the remap irq is not registered', () => {
    const all = opened({ migrationVersion });
    expect(codeSoon(all, all.port.setState('stop-copy'))).toBe('VFIO_E_REFUSED');
  });
});

describe('the migration region of a software device', () => {
  it('stands behind the other regions, and only in version 1', () => {
    const v1 = opened({ migrationVersion: 1 });
    expect(now(v1.port.migration())).toEqual({ version: 1, flags: 5 });
    expect(now(v1.port.info()).regions).toBe(10);
    expect(now(v1.port.regionInfo(9))).toMatchObject({ type: { type: 3, subtype: 1 }, size: 0x1_1000, areas: [{ offset: 0x1000, size: 0x8000 }] });
    const far = opened({ migrationVersion: 1, regions: [{ index: 70, size: 0x1000, areas: 'all' }] });
    expect([now(far.port.migration())?.version, now(far.port.info()).regions]).toEqual([1, 72]);
    expect(now(opened().port.info()).regions).toBe(9);
    const none = opened({ migrationVersion: 1, migration: false });
    expect([now(none.port.migration()), now(none.port.info()).regions]).toEqual([undefined, 9]);
  });

  it('is not part of what is signalled, nor of what is saved', () => {
    const { device } = opened({ migrationVersion: 1 });
    expect(() => { device.driver.revoke(9); }).toThrow(RangeError);
  });

  it('gives up its mapped data when the session ends, and works trapped where somebody else has it mapped', () => {
    const all = opened({ ...still, migrationVersion: 1 });
    const save = dataOf(soon(all, all.port.setState('stop-copy')));
    soon(all, readAll(save));
    expect(all.device.driver.vmas).toBe(1);
    soon(all, all.port.setState('running'));
    expect(all.device.driver.vmas).toBe(0);
    now(all.port.map(9, { offset: 0x1000, size: 0x8000 }));
    const again = dataOf(soon(all, all.port.setState('stop-copy')));
    expect(soon(all, readAll(again)).length).toBeGreaterThan(5);
    soon(all, all.port.setState('running'));
    expect(all.device.driver.vmas).toBe(1);
  });

  it('takes no trapped write of device_state past the state lane', () => {
    const all = opened({ ...still, migrationVersion: 1 });
    const write = { region: 9, offset: device_state, write: Uint8Array.of(2, 0, 0, 0) };
    expect(() => all.port.accessNow(write)).toThrow('transition()');
    expect(codeSoon(all, all.port.access(write))).toBe('VFIO_E_RANGE');
    expect(all.port.accessNow({ region: 9, offset: device_state, readBytes: 4 })).toEqual(Uint8Array.of(1, 0, 0, 0));
  });

  const hostile: readonly (readonly [string, number, (bytes: Uint8Array) => void])[] = [
    ['a state that is none', device_state, (bytes) => bytes.set([5])],
    ['a data_offset of 0', data_offset, (bytes) => bytes.fill(0)],
    ['a data_offset beyond the region', data_offset, (bytes) => bytes.fill(0xff)],
    ['a data_size beyond the region', data_size, (bytes) => bytes.set([0, 0, 2])],
    ['a data_size of 2^64 - 1', data_size, (bytes) => bytes.fill(0xff)],
    ['bytes that are pending and never staged', data_size, (bytes) => bytes.fill(0)],
  ];

  it.each(hostile)('that answers %s is VFIO_E_PROTOCOL, and works again once it is honest', (_, field, spoil) => {
    const all = opened({ ...still, migrationVersion: 1 });
    const save = dataOf(soon(all, all.port.setState('stop-copy')));
    all.device.driver.faults.corrupt('migration', field, spoil);
    expect(codeSoon(all, field === device_state ? all.port.getState() : save.read(64))).toBe('VFIO_E_PROTOCOL');
    all.device.driver.faults.corrupt('migration', field, undefined);
    expect(soon(all, all.port.getState())).toBe('stop-copy');
    expect(soon(all, save.read(64)).kind).toBe('bytes');
  });

  it('that never has an end is the caller\'s to leave: each read is bounded', () => {
    const all = opened({ ...still, migrationVersion: 1 });
    const save = dataOf(soon(all, all.port.setState('stop-copy')));
    soon(all, readAll(save));
    all.device.driver.faults.corrupt('migration', pending_bytes, (bytes) => bytes.fill(0xff));
    expect(codeSoon(all, save.read(64))).toBe('VFIO_E_PROTOCOL');
    expect(codeSoon(all, all.port.setState('running'))).toBe('no error');
  });

  it('whose success is none is not believed, and the device is asked where it is', () => {
    const all = opened({ ...still, migrationVersion: 1 });
    let reads = 0;
    all.device.driver.faults.corrupt('migration', device_state, (bytes) => { if (++reads === 2) bytes.set([1]); });
    expect(codeSoon(all, all.port.setState('stop-copy'))).toBe('VFIO_E_PROTOCOL');
    expect(soon(all, all.port.getState())).toBe('stop-copy');
  });

  it.each<readonly [string, (view: DataView) => void]>([
    ['too small for its struct', (view) => view.setBigUint64(16, 32n, true)],
    ['not writable', (view) => view.setUint32(4, view.getUint32(4, true) & ~2, true)],
    ['without end', (view) => view.setBigUint64(16, 2n ** 63n, true)],
  ])('%s is VFIO_E_PROTOCOL before anything is asked of it', (_, spoil) => {
    const { port, device } = opened({ migrationVersion: 1 });
    device.driver.faults.corrupt('regionInfo', 9, (bytes) => { spoil(new DataView(bytes.buffer)); });
    expect([failure(port.migration()), failure(port.getState())]).toEqual(['VFIO_E_PROTOCOL', 'VFIO_E_PROTOCOL']);
    device.driver.faults.corrupt('regionInfo', 9, undefined);
    expect(now(port.migration())?.version).toBe(1);
  });

  it('of another type is none: the device cannot migrate', () => {
    const { port, device } = opened({ migrationVersion: 1 });
    device.driver.faults.corrupt('regionInfo', 9, (bytes) => { new DataView(bytes.buffer).setUint32(32 + 8, 7, true); });
    expect(now(port.migration())).toBeUndefined();
  });
});
