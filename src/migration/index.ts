/** `vfio-rx/migration`: devices to another process, and the way there. */
export { fitDowntime, type FitDowntimeOptions, type RoundReport, type RoundVerdict } from './fit-downtime.js';
export { fileJournal } from './file-journal.js';
export { memoryJournal, type Journal, type JournalEntry } from './journal.js';
export { migrate } from './migrate.js';
export { receive } from './receive.js';
export { resolve, type ResolvePlan } from './resolve.js';
export type { Deadlines, DeviceProgress, InDoubt, MigrationEvent, MigrationPlan, MigrationProgress, Moved, Phase, ReceivePlan, Resolution } from './plan.js';
export { fileTransport, type FileTransport, type FileTransportOptions } from '../transport/file-transport.js';
export { memoryTransport, type MemoryTransport, type MemoryTransportOptions } from '../transport/memory-transport.js';
export { connectTo, listenAt, socketTransport, type ConnectOptions, type ListenOptions } from '../transport/socket-transport.js';
export type { DestinationRecord } from '../wire/handover-destination.js';
export type { SourceRecord } from '../wire/handover-source.js';
export type { TlsOptions } from '../transport/tls.js';
export type { Connection, Transport } from '../transport/transport.js';
