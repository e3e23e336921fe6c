/** `vfio-rx/devices`: opening devices, and the seam for ports of your own. */
export { openDevice, withDevice, type DeviceAddress, type KernelWay, type OpenOptions, type PortSource } from './open.js';
export { serveDevice, type ServerEvent } from './serve.js';
export { VfioDevice } from './device.js';
export { ConfigSpace } from './config-space.js';
export type { PciBar, PciCommand, PciConfig } from './protocol/pci-config.js';
export { pciCapabilityId, type PciCapability, type PciExtendedCapability } from './protocol/pci-capabilities.js';
export { Region, type Layouts, type NotMapped } from './regions.js';
export type { AreaDma, DmaHold } from './dma-holds.js';
export type { Hold, Holder, MappedPiece } from './holders.js';
export type { RemapSession } from './remap-session.js';
export type { StateView, WrittenState } from './state-writer.js';
export type { StuckCall } from './stuck-calls.js';
export type {
  AccessRequest, Area, Call, Chunk, DataChannel, DeviceInfo, DevicePort, DmaLimits, DmaLogging, DmaLoggingRequest, DmaMapRequest, DmaMemory, IovaRange, IrqAct, IrqHandle, IrqInfo, IrqLine, IrqOptions, IrqSignal, Mapping,
  MigrationTraits, PortTraits, PrecopyInfo, RegionInfo, ReleaseReport, RemoteDmaRequest, RemoteMemory, State, StateReply,
} from './port.js';
export type { Suspendable } from './decoding.js';
export { dirtyRanges, type DirtyBitmap } from './protocol/dirty-pages.js';
export type { MappedLayout } from './protocol/layout-diff.js';
export type { RemapAgreement, RemapPage, SpokenProfile } from './protocol/negotiation.js';
export type { IrqAction, IrqData, IrqSet } from './uapi/irq-set.js';
export type { RegionRemapCapability, RemapCapability, RfcV4Capability } from './uapi/remap-capability.js';
export { pciIrqRows, type IrqKind, type IrqRow } from './protocol/irq-rules.js';
export { VfioError, errorCodes, type VfioErrorCode, type VfioErrorDetails } from '../errors.js';
export type { Abortable } from '../abort.js';
export { realClock, type Clock, type StallWatch } from '../clock.js';
export type { TraceSink } from './replay/recorder.js';
export { irqChannel, portChannel, remapChannel, warningChannel, type IrqEvent, type Lane, type PortEvent, type RemapEvent, type Warning } from '../diagnostics.js';
export { softwareDevice, type SoftwareDevice } from './software/software-device.js';
export { sampleRegions, type SoftwareDeviceOptions, type SoftwareRegion } from './software/options.js';
export { pciDevice, type PciDevice } from './authored/pci-device.js';
export type { InterruptsDescription, MsixDescription, PciBarDescription, PciDeviceDescription } from './authored/description.js';
export { vendorCapability, type ConfigCapability } from './authored/config-image.js';
export type { DeviceBehaviour, DeviceBus, DeviceIrq } from './authored/behaviour.js';
export type { RegisterAccess, RegisterRead, RegisterWrite } from './authored/access.js';
export type { GuestMemory } from './authored/guest-memory.js';
export type { SoftwareRemap } from './software/remap-shape.js';
export type { SoftwareIrqs } from './software/device-irqs.js';
export type { Drain, Faults } from './software/faults.js';
export type { PageWitness, SoftwareVendorDriver, Violation, ViolationKind } from './software/driver-face.js';
export type { SoftwareDmaRange, SoftwareIommu } from './software/dma.js';
export type { PreCopyScript } from './software/pre-copy-script.js';
export type { GuestStats, MailboxStats } from './software/mailbox.js';
export type { TraceEvent, TraceWord } from './software/trace.js';
