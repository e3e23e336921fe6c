import { distinctUntilChanged, map, merge, tap, type Observable } from 'rxjs';
import { pciDevice, type PciDevice, type RegisterAccess } from 'vfio-rx/devices';

/** The far end of the wire. Bytes are pulled from it and put into it; what is pushed is only that something has changed. */
export interface SerialLine {
  /** There is something to read again, or room to write again. */
  readonly changes: Observable<unknown>;
  read(): number | undefined;
  /** False: wait for a change before the next `write`. */
  readonly room: boolean;
  write(byte: number): void;
}

/** Offsets in the one BAR; two of them mean something else while the divisor is shown (LCR bit 7), and some while they are written. */
const register = { data: 0, interruptEnable: 1, interruptIdentity: 2, lineControl: 3, modemControl: 4, lineStatus: 5, modemStatus: 6, scratch: 7 } as const;
const divisorShown = 0x80;
const enable = { received: 1, transmitted: 2 } as const;
const identity = { none: 1, transmitted: 2, received: 4, fifos: 0xc0 } as const;
const lineStatus = { dataReady: 0x01, transmitterEmpty: 0x60 } as const;
const requestToSend = 0x02;
/** Clear to send, data set ready, carrier. */
const connected = 0xb0;
const fifoBytes = 16;

/** A 16550A: sixteen bytes in, and out as fast as the line takes them. */
class Uart {
  readonly #line: SerialLine;
  readonly #kept = new Uint8Array(8);
  readonly #divisor = new Uint8Array(2);
  #received: number[] = [];
  #fifos = false;
  /** The transmitter has become empty, and nobody has looked since. */
  #transmitted = false;

  constructor(line: SerialLine) {
    this.#line = line;
  }

  get interrupting(): boolean {
    return this.#cause !== identity.none;
  }

  access(access: RegisterAccess): void {
    if (access.kind === 'read') access.answer(this.#read(access.offset));
    else this.#write(access.offset, access.value);
    this.changed();
  }

  /** Takes from the line what there is room for, while the driver wants any: a throttled one has taken RTS away. */
  changed(): void {
    if (((this.#kept[register.modemControl] ?? 0) & requestToSend) === 0) return;
    while (this.#received.length < fifoBytes) {
      const byte = this.#line.read();
      if (byte === undefined) return;
      this.#received.push(byte);
    }
  }

  get #cause(): number {
    const enabled = this.#kept[register.interruptEnable] ?? 0;
    if ((enabled & enable.received) !== 0 && this.#received.length > 0) return identity.received;
    if ((enabled & enable.transmitted) !== 0 && this.#transmitted && this.#line.room) return identity.transmitted;
    return identity.none;
  }

  get #showsDivisor(): boolean {
    return ((this.#kept[register.lineControl] ?? 0) & divisorShown) !== 0;
  }

  #read(offset: number): number {
    if (offset <= register.interruptEnable && this.#showsDivisor) return this.#divisor[offset] ?? 0;
    switch (offset) {
      case register.data:
        return this.#received.shift() ?? 0;
      case register.interruptIdentity: {
        const cause = this.#cause;
        if (cause === identity.transmitted) this.#transmitted = false;
        return cause | (this.#fifos ? identity.fifos : 0);
      }
      case register.lineStatus:
        return (this.#received.length > 0 ? lineStatus.dataReady : 0) | (this.#line.room ? lineStatus.transmitterEmpty : 0);
      case register.modemStatus:
        return connected;
      default:
        return this.#kept[offset] ?? 0;
    }
  }

  #write(offset: number, value: number): void {
    if (offset <= register.interruptEnable && this.#showsDivisor) {
      this.#divisor[offset] = value;
      return;
    }
    switch (offset) {
      case register.data:
        // Whoever has not asked whether there is room loses it.
        if (this.#line.room) this.#line.write(value);
        this.#transmitted = true;
        return;
      case register.interruptIdentity:
        // Here it is the control of the FIFOs: on, and empty what was received.
        this.#fifos = (value & 1) !== 0;
        if ((value & 2) !== 0) this.#received = [];
        return;
      case register.interruptEnable:
        if ((value & ~(this.#kept[offset] ?? 0) & enable.transmitted) !== 0) this.#transmitted = true;
        this.#kept[offset] = value;
        return;
      default:
        this.#kept[offset] = value;
    }
  }
}

/** A serial port on PCI, as Linux's 8250_pci drives it by its class. Its line is up for as long as there is a cause. */
export function uart16550(line: SerialLine): PciDevice {
  const ids = { vendorId: 0x1b36, deviceId: 0x0002, subsystem: { vendorId: 0x1af4, deviceId: 0x1100 }, revision: 1, classCode: 0x07_00_02 };
  return pciDevice({ name: 'uart-16550', ...ids, bars: [{ index: 0, kind: 'io', size: 8 }], interrupts: { intx: true } }, ({ accesses }) => {
    const uart = new Uart(line);
    return merge(accesses.pipe(tap((access) => uart.access(access))), line.changes.pipe(tap(() => uart.changed()))).pipe(
      map(() => uart.interrupting),
      distinctUntilChanged(),
      map((intx) => ({ intx })),
    );
  });
}
