import { EMPTY, firstValueFrom } from 'rxjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { uart16550 } from '../../examples/09-device-for-qemu/uart.js';
import { realClock } from '../../src/clock.js';
import type { DevicePort, IrqHandle } from '../../src/devices/port.js';
import { openUserPort } from '../../src/devices/vfio-user/open-user-port.js';
import { now } from '../support/devices.js';
import { ExampleProcess } from '../support/example-process.js';
import { shownBelow } from '../support/example-run.js';

/** Registers, by what they are when read / when written. */
const [data, enable, identity, , modem, status] = [0, 1, 2, 3, 4, 5];

describe('examples/09-device-for-qemu, driven over its socket', { timeout: 60_000 }, () => {
  const example = new ExampleProcess('09-device-for-qemu');
  let port: DevicePort;
  let line: IrqHandle;
  beforeAll(async () => {
    await example.listening;
    port = await firstValueFrom(openUserPort(example.path, realClock));
    line = await firstValueFrom(port.irq({ index: 0 }));
  });
  afterAll(async () => {
    await port[Symbol.asyncDispose]();
    expect(await example.end()).toBe(0);
  });
  const read = async (offset = 0): Promise<number> => (await firstValueFrom(port.access({ region: 0, offset, readBytes: 1 })))[0] ?? -1;
  const write = (offset = 0, value = 0): Promise<unknown> => firstValueFrom(port.access({ region: 0, offset, write: Uint8Array.of(value) }));

  it('says where it listens, as its page shows', async () => {
    expect((await example.listening).replace(example.path, '/tmp/uart.sock')).toMatch(shownBelow('09-device-for-qemu', 'npx tsx examples/09-device-for-qemu/main.ts unix:/tmp/uart.sock &'));
  });

  it('has two registers behind the divisor latch, and a scratch register', async () => {
    await write(enable, 0);
    await write(3, 0x83);
    await write(0, 0x0c);
    await write(1, 0x01);
    expect([await read(0), await read(1)]).toEqual([0x0c, 1]);
    await write(3, 3);
    await write(7, 0x5a);
    expect([await read(1), await read(7), await read(6)]).toEqual([0, 0x5a, 0xb0]);
  });

  it('sends, and says by its irq that it can send more', async () => {
    await write(identity, 1);
    const signal = firstValueFrom(line.next());
    await write(enable, 2);
    await signal;
    expect(await read(identity)).toBe(0xc2);
    // Who has looked has heard of it.
    expect(await read(identity)).toBe(0xc1);
    for (const byte of Buffer.from('hello')) {
      expect(await read(status)).toBe(0x60);
      await write(data, byte);
    }
    await example.printed('hello');
    expect(await read(identity)).toBe(0xc2);
    await write(enable, 0);
    await firstValueFrom(line.unmask());
  });

  it('keeps what comes back until it is wanted, and holds its line up until all of it is read', async () => {
    example.type('more than sixteen bytes');
    expect(await read(status)).toBe(0x60);
    await write(enable, 1);
    await write(modem, 2);
    await firstValueFrom(line.next());
    let received = '';
    while ((await read(identity)) === 0xc4) {
      received += String.fromCharCode(await read(data));
      // Masked by its signal: whoever has handled one byte unmasks it, and is told of the next.
      const again = received.length < 23 ? firstValueFrom(line.next()) : undefined;
      await firstValueFrom(line.unmask());
      await again;
    }
    expect(received).toBe('more than sixteen bytes');
    expect(await firstValueFrom(line.readNow())).toBeUndefined();
  });
});

describe('uart16550', () => {
  it('writes nothing into a line without room, whatever its driver sends', () => {
    const written: number[] = [];
    const line = { changes: EMPTY, read: () => undefined, room: false, write: (byte: number) => { written.push(byte); } };
    const port = now(uart16550(line).open(realClock));
    const send = (byte: number): void => { now(port.access({ region: 0, offset: data, write: Uint8Array.of(byte) })); };
    send(1);
    line.room = true;
    send(2);
    expect(written).toEqual([2]);
    port.close();
  });
});
