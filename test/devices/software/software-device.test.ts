import { inspect } from 'node:util';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { describe, expect, it } from 'vitest';
import { portChannel, type PortEvent } from '../../../src/diagnostics.js';
import type { SoftwareRemap } from '../../../src/devices/software/remap-shape.js';
import { negotiate } from '../../../src/devices/protocol/negotiation.js';
import type { Chunk, DataChannel } from '../../../src/devices/port.js';
import { softwareDevice } from '../../../src/devices/software/software-device.js';
import { failure, now, opened, registered, traced, watch, type Opened } from './opened.js';

describe('a software device', () => {
  it('shows the face of the sample driver', () => {
    const { port } = opened();
    expect(now(port.info())).toMatchObject({ regions: 9, irqs: 6, reset: true });
    expect([0, 1, 2, 3, 7, 8].map((index) => now(port.regionInfo(index))).map(({ size, areas }) => [size, areas.length])).toEqual([
      [0x1_0000, 1], [0x2_0000, 2], [0x1000, 0], [0, 0], [0x100, 0], [0, 0],
    ]);
    expect(failure(port.regionInfo(9))).toBe('VFIO_E_NO_REGION');
    expect(now(port.irqInfo(0))).toMatchObject({ count: 1, maskable: true, automasked: true });
    expect(now(port.irqInfo(1))).toMatchObject({ count: 4, eventfd: true, noResize: true });
    expect([2, 3, 4, 6].map((index) => failure(port.irqInfo(index)))).toEqual(Array.from({ length: 4 }, () => 'VFIO_E_NO_IRQ'));
    expect(negotiate({ irqs: [now(port.irqInfo(1)), now(port.irqInfo(5))], regions: [], regionCount: 9 }, 'x')).toEqual({
      profile: 'region-remap', pages: [{ irqIndex: 5, page: 0, declared: new Set([0, 1]), signals: 'doorbell', ack: 'value', ackTimeoutMs: 500, maxWaits: 1 }],
    });
    expect(now(port.migration())).toEqual({ version: 2, flags: 7 });
  });

  it('takes other shapes', () => {
    const { port, device } = opened({
      name: 'other', regions: [{ index: 11, size: 0x3000, areas: 'all', savingAreas: [] }, { index: 2, size: 8, writable: false }],
      remap: { irqIndex: 9, ackTimeoutMs: 7, maxWaits: 3 }, migration: 3,
    });
    expect(now(port.info())).toMatchObject({ regions: 12, irqs: 10 });
    expect(now(port.irqInfo(9)).remap).toMatchObject({ regions: 1n << 11n, ackTimeoutMs: 7, maxWaits: 3 });
    expect(now(port.regionInfo(2))).toMatchObject({ size: 8, writable: false });
    expect(port.name).toBe('other');
    expect(device.driver.mailbox.guests).toEqual([]);
  });

  it('says in which row of the protocol it speaks', () => {
    const remapOf = (remap: SoftwareRemap) => now(opened({ remap }).port.irqInfo(5)).remap;
    expect(remapOf({ profile: 'rfc-v4' })).toEqual({ subtype: 'rfc-v4' });
    expect(remapOf({ signals: 'bitmap' })).toMatchObject({ subtype: 'region-remap', page: 0, doorbell: false, noAck: false });
    expect(remapOf({ ack: 'none' })).toMatchObject({ doorbell: true, noAck: true });
    expect(remapOf({ signals: 'bitmap', ack: 'none' })).toMatchObject({ doorbell: false, noAck: true });
    const paged = opened({ regions: [{ index: 3, size: 0x1000, areas: 'all' }, { index: 70, size: 0x1000, areas: 'all' }] }).port;
    expect([now(paged.info()).irqs, now(paged.irqInfo(5)).remap, now(paged.irqInfo(6)).remap]).toMatchObject([7, { page: 0, regions: 8n }, { page: 1, regions: 64n }]);
    expect(failure(opened({ remap: { profile: 'saving-layout' } }).port.irqInfo(5))).toBe('VFIO_E_NO_IRQ');
  });

  it('has another face than that of a PCI function', () => {
    const { device, port } = opened({ face: 'non-pci' });
    expect(now(port.info())).toMatchObject({ pci: false, irqs: 2 });
    expect([now(port.irqInfo(0)).remap, now(port.irqInfo(1)).remap?.subtype]).toEqual([undefined, 'region-remap']);
    const irq = now(port.irq({ index: 0 }));
    const signal = watch(irq.next());
    device.driver.raiseMsi();
    expect(device.driver.irqs).toBe(1);
    signal.stop();
  });

  it('has layouts that never change without a remap irq', () => {
    const { clock, port, device } = opened({ remap: false });
    expect(failure(port.irqInfo(5))).toBe('VFIO_E_NO_IRQ');
    const set = watch(port.setState('stop-copy'));
    clock.flush();
    expect(set.complete).toBe(true);
    expect(device.driver.layout.get(0)).toHaveLength(1);
  });

  it('is open once at a time, and again after the first user is gone', () => {
    const { clock, device, port } = registered();
    expect(failure(device.open(clock))).toBe('VFIO_E_BUSY');
    port.close();
    expect(failure(device.open(clock))).toBe('VFIO_E_BUSY');
    clock.flush();
    expect(failure(device.open(clock))).toBe('no error, 1 values');
  });

  it('is found running by the next user, whatever state the last one left it in', () => {
    const { clock, device, port, irq } = registered();
    const set = watch(port.setState('stop-copy'));
    clock.advanceMs(1);
    now(irq.ack(1n));
    clock.advanceMs(1);
    const data = set.values[0]?.data;
    port.close();
    clock.flush();
    expect(device.driver.state).toBe('running');
    const next = now(device.open(clock));
    expect(now(next.regionInfo(0)).areas).toHaveLength(1);
    const read = data === undefined ? undefined : watch(data.read(1));
    clock.flush();
    expect(read?.error?.code).toBe('VFIO_E_NO_DEVICE');
  });

  it('refuses options that describe no device', () => {
    for (const options of [
      { regions: [{ index: 0, size: 0x2000, areas: [{ offset: 1, size: 0x1000 }] }] },
      { regions: [{ index: 0, size: 0x2000, areas: [{ offset: 0x1000, size: 0x2000 }] }] },
      { regions: [{ index: 0, size: 0 }] },
      { regions: [{ index: 3, size: 8 }, { index: 3, size: 8 }] },
      { numRegions: 3 },
      { remap: { ackTimeoutMs: 0 } },
      { remap: { irqIndex: 1 } },
      { remap: { irqIndex: 0, profile: 'rfc-v4' as const, regions: 1n << 7n } },
      { remap: { ackTimeoutMs: Infinity } },
      { face: 'non-pci' as const, remap: { irqIndex: 0 } },
    ]) expect(() => softwareDevice(options), inspect(options)).toThrow('VFIO_E_RANGE');
  });

  it('releases in order at close, after a blocked write has returned', () => {
    const { clock, device, port } = registered();
    now(port.map(0, { offset: 0, size: 0x1_0000 }));
    const set = watch(port.setState('pre-copy'));
    clock.advanceMs(1);
    port.close();
    port.close();
    const released = watch(port.released);
    clock.advanceMs(0);
    expect(set.error?.code).toBe('VFIO_E_CANCELED');
    expect(released.values.map(({ what }) => what)).toEqual([
      'irq 5 disabled', 'device_state call returned', 'region 0 0x0+0x10000 unmapped', 'device closed',
    ]);
    expect(released.complete).toBe(true);
    expect(watch(port.released).values).toHaveLength(4);
    expect({ opens: device.driver.opens, vmas: device.driver.vmas, irqs: device.driver.irqs, waiters: device.driver.waiters }).toEqual({ opens: 0, vmas: 0, irqs: 0, waiters: 0 });
    expect(traced(device).at(-1)).toBe('close');
    expect(device.driver.state).toBe('running');
  });

  it('publishes what the driver does, and what its eventfd receives', () => {
    const events: PortEvent[] = [];
    const listen = (event: unknown): void => { events.push(event as PortEvent); };
    subscribe(portChannel.name, listen);
    try {
      const { clock, device } = registered({ name: 'seen' });
      clock.advanceMs(0.002);
      device.driver.revoke(0);
      clock.advanceMs(0.003);
      device.driver.restore(0);
    } finally {
      unsubscribe(portChannel.name, listen);
    }
    expect(events.filter(({ device }) => device === 'seen').map(({ lane, label, atNs }) => `${lane} ${label} ${atNs}`)).toEqual([
      'driver revoke0 2000', 'signal 1 2000', 'driver restore0 5000', 'signal 1 5000',
    ]);
  });

  it('keeps a bounded trace whose numbers have no gap', () => {
    const { device, port } = opened({ traceEvents: 10 });
    for (let n = 0; n < 50; n += 1) now(port.regionInfo(0));
    const { trace } = device.driver;
    expect(trace.map(({ seq }) => seq)).toEqual(Array.from({ length: 10 }, (_, n) => 42 + n));
  });

  it('checks its own answers with the readers of a kernel\'s', () => {
    const { device, port } = opened();
    device.driver.faults.corrupt('regionInfo', 1, (bytes) => { new DataView(bytes.buffer).setUint32(12, 4, true); });
    device.driver.faults.corrupt('irqInfo', 5, (bytes) => { new DataView(bytes.buffer).setUint32(8, 77, true); });
    device.driver.faults.corrupt('info', 0, (bytes) => { new DataView(bytes.buffer).setUint32(8, 0xffff_ffff, true); });
    expect([failure(port.regionInfo(1)), failure(port.irqInfo(5)), failure(port.info())]).toEqual(['VFIO_E_PROTOCOL', 'VFIO_E_PROTOCOL', 'VFIO_E_PROTOCOL']);
    device.driver.faults.corrupt('info', 0, undefined);
    expect(failure(port.info())).toBe('no error, 1 values');
  });
});

describe('a data_fd', () => {
  const still = { regions: [{ index: 0, size: 0x2000, areas: 'all' as const }, { index: 4, size: 24 }], remap: false as const };

  const go = ({ clock, port }: Opened, to: 'pre-copy' | 'stop-copy' | 'running' | 'resuming' | 'stop'): { data: DataChannel | undefined; code: string | undefined } => {
    const set = watch(port.setState(to));
    clock.flush();
    return { data: set.values[0]?.data, code: set.error?.errno };
  };

  const call = <T>({ clock }: Opened, one: Parameters<typeof watch<T>>[0]): { value: T | undefined; code: string | undefined } => {
    const seen = watch(one);
    clock.flush();
    return { value: seen.values[0], code: seen.error?.code };
  };

  const drain = (all: Opened, data: DataChannel): { bytes: Uint8Array[]; last: Chunk['kind'] } => {
    const bytes: Uint8Array[] = [];
    for (;;) {
      const { value } = call(all, data.read(1000));
      if (value?.kind !== 'bytes') return { bytes, last: value?.kind ?? 'end' };
      bytes.push(value.bytes);
    }
  };

  it('carries the contents of the regions from one device to another', () => {
    const source = opened(still);
    source.device.driver.writeRegion(0, 0x1ff8, Uint8Array.of(1, 2, 3));
    source.device.driver.writeRegion(4, 23, Uint8Array.of(9));
    const { data } = go(source, 'pre-copy');
    if (data === undefined) throw new Error('no data_fd');
    const first = drain(source, data);
    expect(first.last).toBe('quiet');
    expect(go(source, 'stop-copy').data).toBeUndefined(); // the same session goes on
    const rest = drain(source, data);
    expect(rest.last).toBe('end');
    go(source, 'running');
    expect(call(source, data.read(1)).code).toBe('VFIO_E_NO_DEVICE');

    const destination = opened(still);
    const target = go(destination, 'resuming').data;
    if (target === undefined) throw new Error('no data_fd');
    expect(target.direction).toBe('resume');
    for (const bytes of [...first.bytes, ...rest.bytes]) expect(call(destination, target.write(bytes)).code).toBeUndefined();
    expect(go(destination, 'stop').code).toBeUndefined();
    expect([...destination.device.driver.readRegion(0, 0x1ff8, 4)]).toEqual([1, 2, 3, 0]);
    expect([...destination.device.driver.readRegion(4, 23, 1)]).toEqual([9]);
  });

  it('refuses a stream that is not one, and stays in RESUMING', () => {
    const all = opened(still);
    const { data } = go(all, 'resuming');
    if (data === undefined) throw new Error('no data_fd');
    call(all, data.write(new Uint8Array(40)));
    expect(go(all, 'running').code).toBe('EINVAL');
    expect(all.device.driver.state).toBe('resuming');
    expect(call(all, all.port.reset()).code).toBeUndefined();
    expect(all.device.driver.state).toBe('running');
    expect(call(all, data.write(Uint8Array.of(1))).code).toBe('VFIO_E_NO_DEVICE');
  });

  it('has one read in flight, and none after close', () => {
    const all = opened(still);
    const { data } = go(all, 'pre-copy');
    if (data === undefined) throw new Error('no data_fd');
    const one = watch(data.read(8));
    expect(failure(data.read(8))).toBe('VFIO_E_BUSY');
    all.clock.flush();
    expect(one.values[0]).toMatchObject({ kind: 'bytes' });
    now(data.close());
    now(data.close());
    expect(failure(data.read(8))).toBe('VFIO_E_CLOSED');
  });
});
