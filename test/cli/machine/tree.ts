import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Machine } from '../../../src/cli/machine/machine.js';

interface Made {
  readonly driver?: string;
  readonly group?: number;
  /** vfioN, and whether the kernel makes its file. */
  readonly cdev?: { readonly name: string; readonly file: boolean };
}

interface PciMade extends Made {
  /** `vendor:device`. */
  readonly ids: string;
  readonly class?: string;
  /** Network interfaces and disks that the host has of it. */
  readonly net?: string;
  readonly disk?: string;
}

/** A machine made up in a temporary folder: as much of /sys, /dev and /proc as is put there. */
export class Tree implements Disposable {
  readonly root = mkdtempSync(join(tmpdir(), 'vfio-rx-machine-'));
  /** Files that this user may not open. */
  readonly forbidden = new Set<string>();
  readonly machine: Machine = { root: this.root, asRoot: false, mayUse: (path) => !this.forbidden.has(path.slice(this.root.length)) };

  file(path: string, text = ''): this {
    mkdirSync(dirname(join(this.root, path)), { recursive: true });
    writeFileSync(join(this.root, path), `${text}\n`);
    return this;
  }

  folder(...paths: readonly string[]): this {
    for (const path of paths) mkdirSync(join(this.root, path), { recursive: true });
    return this;
  }

  link(path: string, target: string): this {
    mkdirSync(dirname(join(this.root, path)), { recursive: true });
    symlinkSync(target, join(this.root, path));
    return this;
  }

  /** VFIO as it is when its modules are loaded and an IOMMU is on. */
  vfio(): this {
    return this.folder('/sys/class/iommu/dmar0', '/sys/class/misc/vfio', '/sys/module/vfio_iommu_type1', '/sys/bus/pci/drivers/vfio-pci').file('/dev/vfio/vfio');
  }

  pci(bdf: string, { ids, class: code = '020000', net, disk, ...made }: PciMade): this {
    const path = `/sys/bus/pci/devices/${bdf}`;
    const [vendor, device] = ids.split(':');
    this.file(`${path}/vendor`, `0x${vendor}`).file(`${path}/device`, `0x${device}`).file(`${path}/class`, `0x${code}`);
    if (net !== undefined) this.link(`/sys/class/net/${net}`, `../../devices/pci0000:00/${bdf}/net/${net}`);
    if (disk !== undefined) this.link(`/sys/block/${disk}`, `../devices/pci0000:00/${bdf}/nvme/nvme0/${disk}`);
    return this.#device(path, bdf, made);
  }

  mdev(uuid: string, made: Made & { readonly type?: string } = {}): this {
    const path = `/sys/bus/mdev/devices/${uuid}`;
    if (made.type !== undefined) this.folder(path).link(`${path}/mdev_type`, `../mdev_supported_types/${made.type}`);
    return this.folder(path).#device(path, uuid, made);
  }

  [Symbol.dispose](): void {
    rmSync(this.root, { recursive: true });
  }

  #device(path: string, name: string, { driver, group, cdev }: Made): this {
    if (driver !== undefined) this.folder(`/sys/bus/pci/drivers/${driver}`).link(`${path}/driver`, `../../bus/pci/drivers/${driver}`);
    if (group !== undefined) {
      this.link(`${path}/iommu_group`, `../../kernel/iommu_groups/${group}`).folder(`/sys/kernel/iommu_groups/${group}/devices/${name}`);
      if (driver?.includes('vfio') === true) this.file(`/dev/vfio/${group}`);
    }
    if (cdev !== undefined) this.folder(`${path}/vfio-dev/${cdev.name}`);
    if (cdev?.file === true) this.file(`/dev/vfio/devices/${cdev.name}`);
    return this;
  }
}
