import { defer, map } from 'rxjs';
import type { DataChannel, DevicePort } from '../../src/devices/port.js';
import type { Alter } from '../support/devices.js';

/** The data_fds that a device's user was given. */
export interface Channels {
  made: number;
  open: number;
  /** Called whenever one of them is asked what there is to read, before it answers. */
  asked?: () => void;
}

/** A port that counts its data_fds. */
export function countedChannels(counts: Channels): Alter {
  const counted = (data: DataChannel): DataChannel => {
    let open = true;
    counts.made += 1;
    counts.open += 1;
    return {
      direction: data.direction,
      read: (maxBytes) => data.read(maxBytes),
      write: (bytes) => data.write(bytes),
      precopy: () => defer(() => {
        counts.asked?.();
        return data.precopy();
      }),
      close: () =>
        defer(() => {
          if (open) counts.open -= 1;
          open = false;
          return data.close();
        }),
    };
  };
  return (port: DevicePort) => ({ setState: (to) => port.setState(to).pipe(map((reply) => (reply.data === undefined ? reply : { ...reply, data: counted(reply.data) }))) });
}
