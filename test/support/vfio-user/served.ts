import type { Subscription } from 'rxjs';
import { serveDevice, type DeviceAddress, type ServerEvent } from '../../../src/devices/index.js';

/** A served device, and what its server tells. */
export class Served<Device extends DeviceAddress> {
  readonly events: ServerEvent[] = [];
  readonly serving: Subscription;
  #told: () => void = () => undefined;

  constructor(readonly path: string, readonly device: Device) {
    this.serving = serveDevice(device, path).subscribe({
      next: (event) => {
        this.events.push(event);
        this.#told();
      },
      error: (error: unknown) => { throw error; },
    });
  }

  /** When so many clients have gone. */
  gone(clients: number): Promise<void> {
    return new Promise((resolve) => {
      this.#told = () => {
        if (this.events.filter(({ kind }) => kind === 'gone').length >= clients) resolve();
      };
      this.#told();
    });
  }
}
