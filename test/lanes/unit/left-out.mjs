/**
 * What `npm run test:quick` leaves out of the unit lane, and why: the one list of it. A folder ends in `/`. Measured on two cores: what takes
 * more than some seconds, or needs more than this process.
 *
 * @type {ReadonlyArray<{ readonly files: readonly string[], readonly because: string }>}
 */
export const LEFT_OUT = [
  { files: ['test/typed/pages.test.ts', 'test/typed/shell.test.ts', 'test/typed/play.test.ts'], because: 'types the pages, in a clone and where the package is installed' },
  { files: ['test/package.test.ts', 'test/reference.test.ts', 'test/samples.test.ts', 'test/guides.test.ts'], because: 'compilers, bundlers, and the package' },
  { files: ['test/properties/'], because: 'a thousand random schedules for each promise and each cell of the contract' },
  { files: ['test/examples/'], because: 'programs in real time' },
  { files: ['test/cli/conformance.test.ts', 'test/cli/keep-as-test.test.ts', 'test/cli/record.test.ts', 'test/cli/two-processes.test.ts', 'test/cli/watch.test.ts'], because: 'processes, and devices in real time' },
  { files: ['test/migration/disk-and-clock.test.ts', 'test/migration/every-message.test.ts', 'test/migration/killed.test.ts', 'test/migration/properties.test.ts'], because: 'processes that are killed, a fault at every message, random runs' },
  { files: ['test/wire/handover.test.ts', 'test/devices/dma-schedules.test.ts', 'test/devices/software/pre-copy-script.test.ts', 'test/devices/software/migration.test.ts'], because: 'long random runs' },
  { files: ['test/devices/vfio-user/foreign-server.test.ts', 'test/devices/vfio-user/hostile.test.ts', 'test/devices/vfio-user/remaps.test.ts', 'test/devices/vfio-user/suites.test.ts', 'test/devices/vfio-user/two-processes.test.ts'], because: 'compiled and hostile peers, and suites over a socket' },
  { files: ['test/port/vfio-user.test.ts', 'test/port/broken.test.ts'], because: 'the suite of ports over a socket, and on every broken port' },
  { files: ['test/testing/conformance/'], because: 'each rule against what breaks it' },
  { files: ['test/devices/kernel/inherit.test.ts', 'test/devices/linux/lanes.test.ts', 'test/devices/linux/mapped-memory.test.ts', 'test/devices/linux/reactor.test.ts'], because: 'threads and processes' },
  { files: ['test/cli/commands-plan.test.ts', 'test/migration/file-journal-sync.test.ts'], because: 'modules replaced by others, which files in one process would share' },
  { files: ['test/testing/drawing/', 'test/testing/render-diagram.test.ts'], because: 'a browser, and very long diagrams' },
];

/** As vitest wants it. */
export const leftOutPatterns = LEFT_OUT.flatMap(({ files }) => files.map((file) => (file.endsWith('/') ? `${file}**` : file)));

/** One line for the end of a quick run. */
export function leftOutLine() {
  return `left out, for npm test: ${LEFT_OUT.map(({ because }) => because).join('; ')} (test/lanes/unit/left-out.mjs)`;
}
