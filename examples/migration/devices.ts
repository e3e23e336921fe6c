import { firstValueFrom } from 'rxjs';
import { openDevice, softwareDevice, type VfioDevice } from 'vfio-rx';

/** Software devices with contents of their own; the same code takes the addresses of real ones. */
export function open(side: string, count: number, millisecondsAnArc = 0): Promise<VfioDevice[]> {
  return Promise.all(
    Array.from({ length: count }, (_, n) => {
      const software = softwareDevice({ name: `${side}${n}`, regions: [{ index: 0, size: 1 << 20 }], remap: false, mailbox: false });
      software.driver.writeRegion(0, 0, new TextEncoder().encode(`the state of ${side}${n}`));
      software.driver.faults.arcLatencyUs = millisecondsAnArc * 1000;
      return firstValueFrom(openDevice(software));
    }),
  );
}

/** The text at the beginning of region 0. */
export async function textOf(device: VfioDevice): Promise<string> {
  const bytes = await firstValueFrom(device.region(0).request({ offset: 0, readBytes: 64 }));
  return new TextDecoder().decode(bytes).replace(/\0+$/, '');
}
