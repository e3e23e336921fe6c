import type { Clock } from '../../clock.js';
import { DeviceIrqs, irqFacts } from '../software/device-irqs.js';
import type { Errno } from '../software/errno.js';
import type { SoftEventfd } from '../software/eventfd.js';
import { Trace } from '../software/trace.js';
import type { IrqInfo } from '../port.js';
import { VFIO_IRQ_INFO_AUTOMASKED, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE, VFIO_IRQ_INFO_NORESIZE, VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX } from '../uapi/constants.js';
import type { IrqSet } from '../uapi/irq-set.js';
import type { DeviceIrq } from './behaviour.js';
import type { ConfigRegisters } from './config-registers.js';
import type { PciDeviceShape } from './description.js';

/** Of what registers come and go nobody keeps a trace here. */
const noTrace = 1;

/**
 * What a device emits, as its user hears it. The line of INTx follows the last level that was emitted: it signals once, is masked until
 * its user unmasks it, and signals again then if it is still up. A message goes to whichever of MSI and MSI-X is enabled; where neither is, it is lost.
 */
export class AuthoredIrqs {
  readonly #config: ConfigRegisters;
  readonly #irqs: DeviceIrqs;
  readonly #has: PciDeviceShape['interrupts'];
  #level = false;

  constructor({ interrupts = {}, msix }: PciDeviceShape, config: ConfigRegisters, clock: Clock) {
    this.#config = config;
    this.#has = interrupts;
    const facts = irqFacts({ intx: interrupts.intx ?? false, msi: interrupts.msi ?? 0, msix: msix?.vectors ?? 0 }, 'pci');
    this.#irqs = new DeviceIrqs(facts, new Trace(noTrace, () => clock.nowNs()), () => false);
  }

  /** Count 0 where the device has none at this index. */
  info(index: number): IrqInfo {
    const { flags, count } = this.#irqs.info(index) ?? { flags: 0, count: 0 };
    const has = (flag: number): boolean => (flags & flag) !== 0;
    return { index, flags, count, eventfd: has(VFIO_IRQ_INFO_EVENTFD), maskable: has(VFIO_IRQ_INFO_MASKABLE), automasked: has(VFIO_IRQ_INFO_AUTOMASKED), noResize: has(VFIO_IRQ_INFO_NORESIZE) };
  }

  set(set: IrqSet<SoftEventfd | undefined>): Errno | undefined {
    return this.#irqs.set(set);
  }

  /** Throws RangeError where the device has not described such an irq. */
  emitted(irq: DeviceIrq): void {
    if ('intx' in irq) {
      if (this.#has?.intx !== true) throw new RangeError('this device has no INTx: describe it as interrupts.intx');
      this.#level = irq.intx;
      this.commanded();
      return;
    }
    const { message } = irq;
    const having = [VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX].filter((index) => message < this.info(index).count);
    if (having.length === 0) throw new RangeError(`this device has no message ${message}: describe it as interrupts.msi or interrupts.msix`);
    for (const index of having) this.#irqs.raise(index, message);
  }

  /** The command register may have changed: it can hold the line down. */
  commanded(): void {
    this.#config.line = this.#level;
    if (this.#level && !this.#config.command.intxDisable) this.#irqs.raise(VFIO_PCI_INTX_IRQ_INDEX);
    else this.#irqs.lower(VFIO_PCI_INTX_IRQ_INDEX);
  }

  reset(): void {
    this.#level = false;
    this.commanded();
  }
}
