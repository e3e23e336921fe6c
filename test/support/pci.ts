import { readFileSync, readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { vfioFds } from './mdev.js';
import { loadModule } from './modules.js';

const devices = '/sys/bus/pci/devices';

/** `vendor:device` of the functions that the virtual machine has for vfio-pci (test/lanes/kernel/vm.mjs). */
const eduId = '1234:11e8';
const networkCardId = '8086:10d3';

/** A PCI function of the virtual machine, bound to vfio-pci until it is disposed of. Close its devices first. */
export class VfioPci implements Disposable {
  readonly address: string;

  constructor(address: string) {
    this.address = address;
    writeFileSync(`${devices}/${address}/driver_override`, 'vfio-pci');
    writeFileSync('/sys/bus/pci/drivers_probe', address);
    if (driverOf(address) !== 'vfio-pci') throw new Error(`${address} is bound to ${driverOf(address) ?? 'no driver'}, not to vfio-pci`);
  }

  /** Where the educational device is, bound or not. */
  static eduAddress(): string {
    return one(addressesOf(eduId));
  }

  /** QEMU's educational device: INTx, MSI, one BAR of 1 MiB, a DMA engine of 28 bits. */
  static edu(): VfioPci {
    return new VfioPci(VfioPci.eduAddress());
  }

  /** An e1000e in a group of its own: five MSI-X vectors, ERR and REQ. */
  static networkCard(): VfioPci {
    return new VfioPci(one(addressesOf(networkCardId).filter((address) => groupMates(address).length === 1)));
  }

  /** Two e1000e that make one group, behind a conventional bridge, which is no endpoint and does not count. */
  static pair(): readonly [VfioPci, VfioPci] {
    const [first, second] = addressesOf(networkCardId).filter((address) => groupMates(address).length > 1);
    if (first === undefined || second === undefined) throw new Error('the machine has no two network cards in one group');
    return [new VfioPci(first), new VfioPci(second)];
  }

  get group(): number {
    return Number(groupOf(this.address));
  }

  /** How the kernel resets it from now on. */
  set resetMethod(method: string) {
    writeFileSync(`${devices}/${this.address}/reset_method`, method);
  }

  /**
   * The kernel believes that this function reported an error which cannot be corrected and is not fatal (a completion timeout).
   * Needs a PCI Express port above it.
   */
  reportError(): void {
    loadModule('aer_inject');
    const [domain = 0, bus = 0, device = 0, fn = 0] = this.address.split(/[:.]/).map((part) => Number.parseInt(part, 16));
    // struct aer_error_inj of the kernel's drivers/pci/pcie/aer_inject.c: three bytes and a hole, then words.
    const [at, uncorrectable, domainAt, size] = [0, 4, 28, 32];
    const error = Buffer.alloc(size);
    error.set([bus, device, fn], at);
    error.writeUInt32LE(1 << 14, uncorrectable);
    error.writeUInt32LE(domain, domainAt);
    writeFileSync('/dev/aer_inject', error);
  }

  get bound(): boolean {
    return driverOf(this.address) === 'vfio-pci';
  }

  [Symbol.dispose](): void {
    // The kernel would wait for the device to be closed, in this very thread, which is the one to close it.
    if (vfioFds().some((target) => target.includes('vfio-device'))) throw new Error(`a device is still open: unbinding ${this.address} would wait for ever`);
    if (this.bound) writeFileSync('/sys/bus/pci/drivers/vfio-pci/unbind', this.address);
    writeFileSync(`${devices}/${this.address}/driver_override`, '\n');
  }
}

function addressesOf(id: string): readonly string[] {
  return readdirSync(devices)
    .filter((address) => ['vendor', 'device'].map((name) => readFileSync(`${devices}/${address}/${name}`, 'utf8').trim().slice(2)).join(':') === id)
    .sort();
}

function one(addresses: readonly string[]): string {
  const [address] = addresses;
  if (address === undefined || addresses.length !== 1) throw new Error(`expected one function, found ${addresses.join(', ')}`);
  return address;
}

function groupOf(address: string): string {
  return basename(readlinkSync(`${devices}/${address}/iommu_group`));
}

function groupMates(address: string): readonly string[] {
  return readdirSync(`/sys/kernel/iommu_groups/${groupOf(address)}/devices`);
}

function driverOf(address: string): string | undefined {
  try {
    return basename(readlinkSync(`${devices}/${address}/driver`));
  } catch {
    return undefined;
  }
}
