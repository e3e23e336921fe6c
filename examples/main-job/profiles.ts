import type { RemapIrqOptions, SoftwareDeviceOptions } from 'vfio-rx';

/** How the driver of a profile learns that its areas are gone, and so what its trace must show. */
export type Answer =
  /** The sum that was read comes back. */
  | 'value'
  /** An ack without a number. */
  | 'bare'
  /** It sees for itself that the mappings are closed. */
  | 'watched'
  /** It does not ask: the user moves by itself, and is refused where it has not. */
  | 'unasked'
  /** Nothing is ever taken away. */
  | 'nothing';

export interface ProfileChoice {
  readonly about: string;
  readonly remap: Exclude<SoftwareDeviceOptions['remap'], undefined>;
  /** The word of the sample driver's sysfs. */
  readonly sysfs: string;
  readonly options: RemapIrqOptions;
  readonly answer: Answer;
}

/** Every row of the protocol; docs/serve-remaps.md has a diagram of each. */
export const profiles = {
  'doorbell-value': { about: 'region-remap: any region may have changed; the sum that was read is written back', remap: { signals: 'doorbell', ack: 'value' }, sysfs: 'doorbell-value', options: {}, answer: 'value' },
  'bitmap-value': { about: 'region-remap: a bit for each region; the sum that was read is written back', remap: { signals: 'bitmap', ack: 'value' }, sysfs: 'bitmap-value', options: {}, answer: 'value' },
  'doorbell-none': { about: 'region-remap: the driver watches the mappings close, nothing is written', remap: { signals: 'doorbell', ack: 'none' }, sysfs: 'doorbell-none', options: {}, answer: 'watched' },
  'bitmap-none': { about: 'the same with a bit for each region', remap: { signals: 'bitmap', ack: 'none' }, sysfs: 'bitmap-none', options: {}, answer: 'watched' },
  'rfc-v4': { about: 'the proposal of 2020, acked by a write of 0 to the same eventfd', remap: { profile: 'rfc-v4' }, sysfs: 'rfc-v4', options: {}, answer: 'bare' },
  'rfc-v4-write-one': { about: 'the same, acked by a write of 1, which comes back', remap: { profile: 'rfc-v4' }, sysfs: 'rfc-v4', options: { rfcAck: 'write-one' }, answer: 'bare' },
  'saving-layout': { about: 'no irq: the user moves to the layout of the target state before it writes device_state', remap: { profile: 'saving-layout' }, sysfs: 'saving-layout', options: {}, answer: 'unasked' },
  static: { about: 'layouts never change', remap: false, sysfs: 'static', options: {}, answer: 'nothing' },
} as const satisfies Readonly<Record<string, ProfileChoice>>;

export type Profile = keyof typeof profiles;
