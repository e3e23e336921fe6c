/** `vfio-rx/testing`: marble tests in virtual time, runs as marble diagrams, and rules with suites that check them. */
export { checkDevice, describeDevice, deviceRules } from './conformance/device/check-device.js';
export { brokenDevices, type BrokenDevice } from './conformance/device/twins.js';
export { checkMigration, describeMigration, migrationRules } from './conformance/migration/check-migration.js';
export { deviceMigrationHarness } from './conformance/device/address-harness.js';
export type { DeviceHarness, DeviceNeed } from './conformance/device/harness.js';
export { sampleState, softwareMigrationHarness, type SoftwareMigrationOptions } from './conformance/device/software-harness.js';
export { brokenMigrations, type BrokenMigration } from './conformance/migration/twins.js';
export { checkOperator, describeOperator, operatorRules } from './conformance/operator/check-operator.js';
export type { OperatorNeed, OperatorSubject } from './conformance/operator/subject.js';
export { brokenOperators, type BrokenOperator } from './conformance/operator/twins.js';
export { checkPort, describePort, portRules } from './conformance/port/check-port.js';
export { sampleFace, type OpenPort, type PortHarness, type PortNeed, type PortScript, type PortWitness } from './conformance/port/harness.js';
export { softwarePortHarness, type SoftwareHarnessOptions } from './conformance/port/software-harness.js';
export { brokenPorts, type BrokenPort } from './conformance/port/twins.js';
export { checkStream, describeStream, streamRules } from './conformance/stream/check-stream.js';
export type { StreamNeed, StreamSubject } from './conformance/stream/subject.js';
export { brokenStreams, type BrokenStream } from './conformance/stream/twins.js';
export type { PatienceOptions } from './conformance/patience.js';
export { junitOf, linesOf } from './conformance/report.js';
export type { Lacks, Rule, RuleResult, TestRunner } from './conformance/rule.js';
export { virtualRun } from './conformance/virtual-run.js';
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
export { followTrace, type Followed } from './follow-trace.js';
export { planOf } from './run-plan.js';
export { servedRun, type RunPlan } from './served-run.js';
export { memoryTrace, type MemoryTrace } from '../devices/replay/memory-trace.js';
export { readTraceFile } from '../devices/replay/read-trace-file.js';
export { recordPort } from '../devices/replay/record-port.js';
export type { RecordingOptions, TraceSink } from '../devices/replay/recorder.js';
export type { Departure } from '../devices/replay/replay-run.js';
export { replayTrace, type TraceReplay } from '../devices/replay/replay-trace.js';
export { traceFile, type TraceFile, type TraceFileOptions, type TraceFileReport } from '../devices/replay/trace-file.js';
export type { CallName } from '../devices/trace/calls.js';
export type { TracedError } from '../devices/trace/values.js';
export type { AnswerEntry, CallEntry, DetachEntry, DroppedEntry, EndEntry, ReleasedEntry, TraceEntry, TraceHeader } from '../devices/trace/entry.js';
export { readTrace, type Trace, type TraceLimits } from '../devices/trace/reader.js';
export type { Drawable, RecordedLanes } from './drawing/drawing.js';
export { renderHtml } from './drawing/render-html.js';
export { renderSvg, type SvgOptions } from './drawing/render-svg.js';
export { traceEvents } from './drawing/trace-lanes.js';
export { recordLanes, type LaneRecording, type RecordOptions } from './record-lanes.js';
export { renderDiagram, type RenderOptions } from './render-diagram.js';
export type { MarbleSource, SubscriptionSpan } from './sources.js';
export type { TestDevice, TestDeviceOptions } from './test-device.js';
export { testSignal, type TestChannel, type TestSignal } from './test-signal.js';
