/** What `npm run bench` measures: the programs that run, side by side, and the figures that are read out of them. */

/** Compiled from the file of this name. */
export type CProgram = 'peer' | 'remap-peer' | 'migration-peer' | 'user-peer';

/** One side of a measurement: `peer`, `remap-peer`, `migration-peer` and `user-peer` are compiled C programs, `node` a program of this folder, compiled by tsc. */
export interface Side {
  readonly program: CProgram | 'node';
  /** `PEER`, `REMAP_PEER`, `USER_PEER`, `FILE`, `SOCKET` and `OTHER_CPU` stand for what the runner knows. */
  readonly args: readonly string[];
}

/** A figure beside another. A time is better when lower, so its bounds are ceilings; the bounds of a rate are floors. */
export interface Line {
  readonly name: string;
  /** Which of the printed figures. */
  readonly figure: string;
  /** The figure that it is divided by: of the same name on the C side (default), or another one of our own side. */
  readonly beside?: string;
  readonly unit: 'us' | 'ns' | 'per second' | 'MiB/s' | 'MiB' | '%';
  /** Of the ratio; of the figure itself where nothing stands beside it, and of a percentage always. */
  readonly aim?: number;
  readonly limit?: number;
  /** The same by CPU time, which other load spoils less. */
  readonly byCpu?: string;
}

export interface Measurement {
  /** Chosen by `--only`. */
  readonly group: 'irqs' | 'remap' | 'migration' | 'vfio-user' | 'accessors' | 'recording' | 'idle';
  readonly c?: Side;
  readonly ours: Side;
  readonly lines: readonly Line[];
}

const roundTrip = (name: string, gapNs: string, count: string, bounds: Pick<Line, 'aim' | 'limit'>): Measurement => ({
  group: 'irqs',
  c: { program: 'peer', args: ['serve-pulse', gapNs, count, '0'] },
  ours: { program: 'node', args: ['served.js', 'pulse', 'PEER', gapNs, count] },
  lines: [{ name, figure: 'p50Ns', unit: 'us', ...bounds }],
});

const deliveries = (name: string, mode: 'flood' | 'bare', fds: string): Measurement => ({
  group: 'irqs',
  c: { program: 'peer', args: ['serve-flood', fds, '1500000', 'OTHER_CPU'] },
  ours: { program: 'node', args: ['served.js', mode, 'PEER', fds, '1500000', 'OTHER_CPU'] },
  lines: [{ name, figure: 'perSecond', unit: 'per second', aim: 0.6, limit: 0.5, byCpu: 'perCpuSecond' }],
});

const remap = (name: string, regions: string, count: string): Measurement => ({
  group: 'remap',
  c: { program: 'remap-peer', args: ['user', 'FILE', regions, '16', count, '0'] },
  ours: { program: 'node', args: ['remap-user.js', 'REMAP_PEER', 'FILE', regions, '16', count] },
  lines: [
    { name: `${name}, revoked, p50`, figure: 'p50Ns', unit: 'us', aim: 2 },
    { name: `${name}, revoked, p99`, figure: 'p99Ns', unit: 'us', aim: 2 },
    { name: `${name}, restored, p50`, figure: 'restoredP50Ns', unit: 'us', aim: 2 },
    { name: `${name}, restored, p99`, figure: 'restoredP99Ns', unit: 'us', aim: 2 },
  ],
});

const memoryLines = (name: string): readonly Line[] => [
  { name: `  memory of ${name}, source`, figure: 'sourceMib', unit: 'MiB', aim: 64 },
  { name: `  memory of ${name}, destination`, figure: 'destinationMib', unit: 'MiB', aim: 64 },
];

/** @param before so many GiB that the same process has moved */
const migration = (name: string, kind: 'unix' | 'tcp', before: number): Measurement => ({
  group: 'migration',
  c: { program: 'migration-peer', args: [kind, '1024', 'OTHER_CPU'] },
  ours: { program: 'node', args: ['migration.js', 'send', 'PEER', kind, '1024', String(before), 'OTHER_CPU'] },
  lines: [
    { name: before === 0 ? `1 GiB of state, ${name}` : `  ${name}, after ${before} GiB`, figure: 'mibPerSecond', unit: 'MiB/s', aim: 0.8, byCpu: 'mibPerCpuSecond' },
    ...(before === 0 ? memoryLines('1 GiB') : []),
  ],
});

const downtime = (name: string, devices: string, journals: 'memory' | 'disk', slow = '0'): Measurement => ({
  group: 'migration',
  ours: { program: 'node', args: ['downtime.js', 'send', 'PEER', devices, '100', journals, slow, 'OTHER_CPU'] },
  lines: [
    { name: `downtime added, ${name}, p50`, figure: 'p50Ns', unit: 'us' },
    { name: `downtime added, ${name}, p99`, figure: 'p99Ns', unit: 'us' },
  ],
});

const user = (name: string, mode: string, args: readonly string[], line: Omit<Line, 'name'>): Measurement => ({
  group: 'vfio-user',
  c: { program: 'user-peer', args: [mode, 'SOCKET', ...args, 'OTHER_CPU'] },
  ours: { program: 'node', args: ['user-client.js', mode, 'PEER', 'USER_PEER', 'SOCKET', ...args, 'OTHER_CPU'] },
  lines: [{ name, ...line }],
});

export const measurements: readonly Measurement[] = [
  roundTrip('round trip, back to back', '0', '40000', { aim: 1.6, limit: 1.8 }),
  roundTrip('round trip, 1 ms between', '1000000', '1000', {}),
  deliveries('deliveries, 64 fds', 'bare', '64'),
  deliveries('deliveries, 1,024 fds', 'bare', '1024'),
  deliveries('  with an operator, 64 fds', 'flood', '64'),
  deliveries('  with an operator, 1,024', 'flood', '1024'),
  remap('remap of 1 region', '1', '10000'),
  remap('remap of 64 regions', '64', '1000'),
  migration('UNIX socket', 'unix', 0),
  migration('UNIX socket', 'unix', 4),
  migration('TCP', 'tcp', 0),
  migration('TCP', 'tcp', 4),
  {
    group: 'migration',
    ours: { program: 'node', args: ['migration.js', 'send', 'PEER', 'tcp', '256', '0', 'OTHER_CPU'] },
    lines: memoryLines('256 MiB'),
  },
  downtime('1 device', '1', 'memory'),
  downtime('8 devices', '8', 'memory'),
  downtime('64 devices', '64', 'memory'),
  downtime('1, journals on disk', '1', 'disk'),
  downtime('2, 10 ms an arc', '2', 'memory', '2'),
  downtime('64, one 10 ms an arc', '64', 'memory', '1'),
  downtime('64, 10 ms an arc', '64', 'memory', '64'),
  user('vfio-user, reads, serial', 'reads', ['1', '60000'], { figure: 'perSecond', unit: 'per second', aim: 0.5, byCpu: 'perCpuSecond' }),
  user('vfio-user, reads, 64 outstanding', 'reads', ['64', '200000'], { figure: 'perSecond', unit: 'per second', aim: 0.8, byCpu: 'perCpuSecond' }),
  user('vfio-user, register to irq', 'irqs', ['20000'], { figure: 'p50Ns', unit: 'us' }),
  user('vfio-user, state', 'state', ['2048'], { figure: 'mibPerSecond', unit: 'MiB/s', aim: 0.8, byCpu: 'mibPerCpuSecond' }),
  {
    group: 'accessors',
    ours: { program: 'node', args: ['accessors.js', 'FILE'] },
    lines: [
      { name: 'read32, mapped', figure: 'mappedReadNs', beside: 'bareReadNs', unit: 'ns', aim: 3 },
      { name: 'write32, mapped', figure: 'mappedWriteNs', beside: 'bareWriteNs', unit: 'ns', aim: 3 },
      { name: 'read32, trapped (one pread)', figure: 'trappedReadNs', beside: 'bareReadNs', unit: 'ns' },
    ],
  },
  {
    group: 'recording',
    ours: { program: 'node', args: ['recording.js', '50000'] },
    lines: [
      { name: 'a call of a software port, recorded', figure: 'recordedNs', beside: 'bareNs', unit: 'ns' },
      { name: 'recording, for each event', figure: 'costNs', unit: 'ns' },
    ],
  },
  {
    group: 'idle',
    ours: { program: 'node', args: ['idle.js', '1024'] },
    lines: [
      { name: 'idle, 1,024 irqs armed', figure: 'cpuPercent', beside: 'barePercent', unit: '%', aim: 0.1, limit: 0.1 },
      { name: '  its first 13 seconds', figure: 'settlingPercent', beside: 'bareSettlingPercent', unit: '%' },
    ],
  },
];
