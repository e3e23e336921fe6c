import { concatMap, defer, map, of, tap, type Observable } from 'rxjs';
import { VfioError } from '../errors.js';
import { ownedCall } from './call.js';
import type { Call } from './port.js';
import { pciCommand, pciConfigLayout } from './protocol/pci-capabilities.js';
import { readPciCommand, readPciConfig, type PciCommand, type PciConfig } from './protocol/pci-config.js';
import type { Region } from './regions.js';

/**
 * The configuration space of a PCI device: `device.config`.
 *
 * What stands there is the device's word and is checked like any other. A VFIO user sees a copy that the kernel keeps for it: BAR
 * addresses are its own, and some bits are not passed on.
 *
 * @example
 * device.config?.busMaster(true).subscribe(({ busMaster }) => console.log(busMaster));
 */
export class ConfigSpace {
  /** Its bytes, by accessor or by request. Writes that stop the device from decoding are recognised there, too. */
  readonly region: Region;
  readonly #device: string;
  #busy = false;

  constructor(region: Region, device: string) {
    this.region = region;
    this.#device = device;
  }

  /**
   * Reads and parses all of it. Fails with VFIO_E_PROTOCOL where a capability list loops or leads out of its room, VFIO_E_NO_DEVICE
   * where the device does not answer.
   */
  read(): Call<PciConfig> {
    return defer(() => this.region.request({ offset: 0, readBytes: this.region.size })).pipe(map((bytes) => readPciConfig(bytes, this.#device)));
  }

  /** Bus Master Enable: without it the device makes no DMA and sends no MSI. Emits the register as it then reads; fails as `memorySpace`. */
  busMaster(on: boolean): Call<PciCommand> {
    return this.#set('bus master enable', pciCommand.busMaster, on);
  }

  /**
   * Memory Space Enable. While it is off a mapped BAR would fault, so every accessor traps (and then fails with VFIO_E_SUSPENDED), and
   * holders have let go before. Emits the register as it then reads. Fails with VFIO_E_UNSUPPORTED where the device does not keep
   * the bit, VFIO_E_HOLDER, and VFIO_E_BUSY while another such call is outstanding.
   */
  memorySpace(on: boolean): Call<PciCommand> {
    return this.#set('memory space enable', pciCommand.memorySpace, on);
  }

  #set(operation: string, bit: number, on: boolean): Call<PciCommand> {
    return ownedCall(() => {
      if (this.#busy) throw new VfioError('VFIO_E_BUSY', 'the command register is being changed: one at a time', { operation, device: this.#device, errno: 'EBUSY' });
      this.#busy = true;
      // Before the answer is delivered: whoever gets it may make the next call at once.
      const idle = (): void => void (this.#busy = false);
      return this.#command().pipe(
        concatMap((value) => {
          const wanted = on ? value | bit : value & ~bit;
          return value === wanted ? of(value) : this.#write(wanted).pipe(concatMap(() => this.#command()));
        }),
        map((value) => {
          if ((value & bit) === (on ? bit : 0)) return readPciCommand(value);
          throw new VfioError('VFIO_E_UNSUPPORTED', `the device does not keep the bit, the register reads 0x${value.toString(16)}`, { operation, device: this.#device });
        }),
        tap({ next: idle, error: idle }),
      );
    });
  }

  #command(): Observable<number> {
    return this.region.request({ offset: pciConfigLayout.command, readBytes: 2 }).pipe(map((bytes) => (bytes[0] ?? 0) | ((bytes[1] ?? 0) << 8)));
  }

  #write(value: number): Call<Uint8Array> {
    return this.region.request({ offset: pciConfigLayout.command, write: Uint8Array.of(value & 0xff, value >> 8) });
  }
}
