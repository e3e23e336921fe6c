import { map, type Observable } from 'rxjs';
import type { IrqInfo, VfioDevice } from 'vfio-rx';

/** The indexes of a PCI device's messages, as a driver would choose: MSI-X, else MSI. INTx is left out: nobody here would clear its cause. */
const messages = [2, 1];

/** The irq by which a device interrupts. */
export function ownIrq(device: VfioDevice): Observable<IrqInfo> {
  return device.irqs().pipe(
    map((all) => {
      const usable = all.filter(({ count, eventfd, automasked, remap }) => count > 0 && eventfd && !automasked && remap === undefined);
      const [best] = device.info.pci ? messages.flatMap((wanted) => usable.filter(({ index }) => index === wanted)) : usable;
      if (best === undefined) throw new Error(`${device.name} has neither MSI nor MSI-X`);
      return best;
    }),
  );
}
