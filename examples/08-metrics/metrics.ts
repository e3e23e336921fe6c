import { subscribe } from 'node:diagnostics_channel';
import { Counter, Histogram, type Registry } from 'prom-client';
import { irqChannel, portChannel, remapChannel, warningChannel, type IrqEvent, type PortEvent, type RemapEvent, type Warning } from 'vfio-rx';

/** Up to beyond what the sample driver waits for an ack, s. */
const buckets = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3];

/** What the channels of the library tell of all devices, as metrics. A device is called as it was opened. */
export function countDevices(registry: Registry): void {
  const registers = [registry];
  const signals = new Counter({ name: 'vfio_irq_signals_total', help: 'Signals that were read from an irq', labelNames: ['device', 'index', 'vector'] as const, registers });
  const served = new Histogram({ name: 'vfio_remap_served_seconds', help: 'From the irq of a remap, or the look at its regions that nobody asked for, to the end of its batch', labelNames: ['device', 'because'] as const, buckets, registers });
  const writes = new Counter({ name: 'vfio_state_writes_total', help: 'Writes of device_state, by where they ended; failed: refused or lost, wherever the device is', labelNames: ['device', 'state'] as const, registers });
  const warnings = new Counter({ name: 'vfio_warnings_total', help: 'Rules that were broken while the work went on', labelNames: ['device'] as const, registers });

  // Called where it happens, maybe while a driver waits: they count, and no more.
  subscribe(irqChannel.name, (message) => {
    const { device, index, vector, count } = message as IrqEvent;
    signals.inc({ device, index, vector }, Number(count));
  });
  subscribe(remapChannel.name, (message) => {
    const { device, because, servedNs } = message as RemapEvent;
    served.observe({ device, because }, Number(servedNs) / 1e9);
  });
  subscribe(portChannel.name, (message) => {
    const { device, lane, phase, label, error } = message as PortEvent;
    // Where it failed the label is `error`, which is a state, too.
    if (lane === 'state' && phase === 'end') writes.inc({ device, state: error === undefined ? label : 'failed' });
  });
  subscribe(warningChannel.name, (message) => {
    const { device } = message as Warning;
    warnings.inc({ device });
  });
}
