import { concatMap, firstValueFrom, Subject } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { softwareDevice } from '../../../src/devices/software/software-device.js';
import type { DevicePort, ReleaseReport } from '../../../src/devices/port.js';
import { memoryTrace } from '../../../src/devices/replay/memory-trace.js';
import { recordPort } from '../../../src/devices/replay/record-port.js';
import type { RecordingOptions, TraceSink } from '../../../src/devices/replay/recorder.js';
import { readTrace } from '../../../src/devices/trace/reader.js';
import { describePort, softwarePortHarness } from '../../../src/testing/index.js';
import { altered, now, twoRegions, whole } from '../../support/devices.js';
import { virtualClock, type VirtualClock } from '../../support/virtual-clock.js';

describePort({ describe, it }, 'recorded', softwarePortHarness({ around: (port) => recordPort(port, memoryTrace()) }));

interface Recorded {
  readonly port: DevicePort;
  readonly clock: VirtualClock;
  readonly driver: ReturnType<typeof softwareDevice>['driver'];
  /** The lines, less time and header. */
  readonly lines: () => readonly string[];
  readonly text: () => string;
}

function recorded(options: RecordingOptions = {}, sink?: TraceSink): Recorded {
  const clock = virtualClock();
  const device = softwareDevice(twoRegions);
  const trace = memoryTrace();
  const port = recordPort(now(device.open(clock)), sink ?? trace, options);
  return { port, clock, driver: device.driver, text: () => trace.text, lines: () => trace.text.split('\n').slice(1, -1).map((line) => line.replace(/"at":"\d+",/, '')) };
}

describe('recordPort', () => {
  it('writes a header, each call with its answer, and its end', () => {
    const { port, clock, text } = recorded({ dataBytes: 16 });
    const mapping = now(port.map(0, whole));
    now(port.unmap(mapping));
    port.close();
    clock.flush();
    expect(text()).toBe([
      '{"vfio-rx-trace":1,"device":"software0","pageSize":4096,"remapInOneTurn":true,"syncAccess":true,"atNs":"0","dataBytes":16}',
      '{"at":"0","call":1,"do":"map","with":{"region":0,"offset":0,"size":8192},"is":null}',
      '{"at":"0","call":2,"do":"unmap","with":{"mapping":1,"region":0,"offset":0,"size":8192},"is":null}',
      '{"at":"0","call":3,"do":"close","with":{"keepViews":false},"is":null}',
      '{"at":"0","released":"device closed"}',
      '{"at":"0","released":null}',
      '{"at":"0","end":true}',
      '',
    ].join('\n'));
    expect(readTrace(text()).incomplete).toBeUndefined();
  });

  it('tells what came inside a call from what came in a turn of its own', () => {
    const { port, clock, driver, lines } = recorded();
    const irq = now(port.irq({ index: 5 }, { ackFd: true }));
    irq.next().subscribe();
    driver.revoke(0);
    clock.flush();
    const waiting = irq.next().subscribe({ error: () => undefined });
    now(irq.close());
    expect(waiting.closed).toBe(true);
    irq.next().subscribe({ error: () => undefined });
    expect(lines()).toEqual([
      '{"call":1,"do":"irq","with":{"index":5,"vector":0,"ackFd":true},"is":null}',
      '{"call":2,"do":"irq.next","with":{"irq":[1,0]}}',
      '{"answer":2,"do":"irq.next","is":{"count":"1","atNs":"0"}}',
      '{"call":3,"do":"irq.next","with":{"irq":[1,0]}}',
      '{"call":4,"do":"irq.close","with":{"irq":[1,0]}}',
      '{"answer":3,"do":"irq.next","inside":4,"fails":{"code":"VFIO_E_CLOSED","message":"this irq was closed","operation":"irq 5 next","device":"software0","errno":null}}',
      '{"answer":4,"do":"irq.close","inside":4,"is":null}',
      expect.stringContaining('{"call":5,"do":"irq.next","with":{"irq":[1,0]},"fails":{"code":"VFIO_E_CLOSED"') as string,
    ]);
  });

  it('tells who stopped waiting, once', () => {
    const { port, clock, lines } = recorded();
    const irq = now(port.irq({ index: 5 }));
    irq.next().subscribe().unsubscribe();
    const call = port.setState('stop').subscribe();
    clock.flush();
    call.unsubscribe();
    expect(lines().slice(1)).toEqual([
      '{"call":2,"do":"irq.next","with":{"irq":[1,0]}}',
      '{"detach":2}',
      '{"call":3,"do":"setState","with":{"to":"stop"}}',
      '{"answer":3,"do":"setState","is":{"state":"stop"}}',
    ]);
  });

  it('keeps as many bytes as it was told, of accesses and of device state', async () => {
    const { port, clock, lines } = recorded({ dataBytes: 2 });
    port.accessNow({ region: 0, offset: 8, write: new Uint8Array([1, 2, 3, 4]) });
    expect([...port.accessNow({ region: 0, offset: 8, readBytes: 4 })]).toEqual([1, 2, 3, 4]);
    expect(() => port.accessNow({ region: 0, offset: 2 ** 40, readBytes: 4 })).toThrow('not inside region');
    const irq = now(port.irq({ index: 5 }, { ackFd: true }));
    const stopped = firstValueFrom(port.setState('stop-copy'));
    irq.next().pipe(concatMap(({ count }) => irq.ack(count))).subscribe({ error: () => undefined });
    clock.flush();
    const { data } = await stopped;
    const chunk = data === undefined ? undefined : firstValueFrom(data.read(8));
    clock.flush();
    expect(await chunk).toMatchObject({ kind: 'bytes' });
    if (data !== undefined) now(data.close());
    const told = lines();
    expect(told.slice(0, 3)).toEqual([
      '{"call":1,"do":"accessNow","with":{"region":0,"offset":8,"write":{"size":4,"hex":"0102"}},"is":{"size":0,"hex":""}}',
      '{"call":2,"do":"accessNow","with":{"region":0,"offset":8,"readBytes":4},"is":{"size":4,"hex":"0102"}}',
      expect.stringContaining('"fails":{"code":"VFIO_E_RANGE"') as string,
    ]);
    expect(told.slice(-3)).toEqual([
      '{"call":8,"do":"data.read","with":{"data":5,"maxBytes":8}}',
      expect.stringMatching(/^\{"answer":8,"do":"data.read","is":\{"kind":"bytes","bytes":\{"size":8,"hex":"[0-9a-f]{4}"\}\}\}$/) as string,
      '{"call":9,"do":"data.close","with":{"data":5},"is":null}',
    ]);
  });

  it('hands the port its own memory, and names it by its call', () => {
    const { port, clock, lines } = recorded();
    const memory = now(port.allocateDma(4096));
    port.dmaMap({ iova: 2n ** 38n, size: 4096, source: memory, read: true, write: true }).subscribe();
    clock.flush();
    port.dmaUnmap({ iova: 2n ** 38n, size: 4096 }).subscribe();
    clock.flush();
    now(memory.free());
    expect(lines()).toEqual([
      '{"call":1,"do":"allocateDma","with":{"bytes":4096},"is":{"size":4096}}',
      '{"call":2,"do":"dmaMap","with":{"iova":"274877906944","size":4096,"source":1,"offset":0,"read":true,"write":true}}',
      '{"answer":2,"do":"dmaMap","is":{"iova":"274877906944","size":4096}}',
      '{"call":3,"do":"dmaUnmap","with":{"iova":"274877906944","size":4096}}',
      '{"answer":3,"do":"dmaUnmap","is":4096}',
      '{"call":4,"do":"dma.free","with":{"memory":1},"is":null}',
    ]);
  });

  it('makes a call once for each subscription, and none before', () => {
    let asked = 0;
    const clock = virtualClock();
    const trace = memoryTrace();
    const port = recordPort(altered(now(softwareDevice(twoRegions).open(clock)), (real) => ({ info: () => { asked += 1; return real.info(); } })), trace);
    const call = port.info();
    const before = trace.text;
    now(call);
    now(call);
    expect([asked, before.split('\n').length, trace.text.split('\n').length]).toEqual([1, 2, 4]);
  });

  it('counts what finds no room, and goes on when there is some', () => {
    let room = true;
    const lines: string[] = [];
    const { port } = recorded({}, { write: (line) => room && lines.push(line) > 0, end: () => undefined });
    now(port.regionInfo(0));
    room = false;
    now(port.regionInfo(0));
    now(port.regionInfo(1));
    room = true;
    now(port.regionInfo(1));
    now(port.regionInfo(1));
    const { entries, incomplete } = readTrace(`${lines.join('\n')}\n`);
    expect(entries.map((entry) => (entry.kind === 'dropped' ? `dropped ${entry.lines}` : entry.kind === 'call' ? `call ${entry.call}` : entry.kind))).toEqual(['call 1', 'dropped 2', 'call 4', 'call 5']);
    expect(incomplete?.message).toContain('no end');
  });

  it('keeps to its limits, and still tells its end', () => {
    for (const limits of [{ maxLines: 6 }, { maxBytes: 1300 }]) {
      const { port, clock, text } = recorded(limits);
      for (let times = 0; times < 20; times += 1) now(port.regionInfo(0));
      port.close();
      clock.flush();
      const { entries, incomplete } = readTrace(text());
      expect(incomplete).toBeUndefined();
      expect(entries.at(-2)).toMatchObject({ kind: 'dropped' });
      expect(text().split('\n').length - 1).toBeLessThanOrEqual(limits.maxLines ?? 100);
      expect(text().length).toBeLessThanOrEqual(limits.maxBytes ?? 10_000);
      expect(entries.filter(({ kind }) => kind === 'call').length).toBeGreaterThan(0);
    }
  });

  it('ends behind the call in which all was released, and writes nothing behind its end', () => {
    const clock = virtualClock();
    const released = new Subject<ReleaseReport>();
    const closing = altered(now(softwareDevice(twoRegions).open(clock)), () => ({
      released,
      close: () => {
        released.next({ what: 'device closed' });
        released.complete();
      },
    }));
    const trace = memoryTrace();
    const port = recordPort(closing, trace);
    port.close();
    now(port.regionInfo(0));
    expect(trace.text.split('\n').slice(1, -1).map((line) => line.replace(/"at":"\d+",/, ''))).toEqual([
      '{"call":1,"do":"close","with":{"keepViews":false}}',
      '{"released":"device closed","inside":1}',
      '{"released":null,"inside":1}',
      '{"answer":1,"do":"close","inside":1,"is":null}',
      '{"end":true}',
    ]);
    expect(readTrace(trace.text).incomplete).toBeUndefined();
  });
});
