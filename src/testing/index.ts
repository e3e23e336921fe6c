/** `vfio-rx/testing`: marble tests in virtual time, and runs as marble diagrams. */
export type { Lanes } from './device-lanes.js';
export type { NamedDevice, ReleasableDevice } from './expect-device.js';
export type { FrameUnit } from './frames.js';
export { MarbleError } from './marble-error.js';
export {
  marbles,
  type DeviceExpectation,
  type MarbleOptions,
  type MarbleTest,
  type MarbleValues,
  type ObservableExpectation,
  type ReleasableDeviceExpectation,
  type SubscriptionExpectation,
} from './marbles.js';
export { recordLanes, type LaneRecording, type RecordOptions } from './record-lanes.js';
export { renderDiagram, type RenderOptions } from './render-diagram.js';
export type { MarbleSource, SubscriptionSpan } from './sources.js';
export type { TestDevice, TestDeviceOptions } from './test-device.js';
