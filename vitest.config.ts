import { resolve } from 'node:path';
import { defineConfig } from 'vitest/config';

const src = resolve(import.meta.dirname, 'src');

export default defineConfig({
  // As tsconfig.json has it: the examples import the package by its name.
  resolve: { alias: [{ find: /^vfio-rx$/, replacement: `${src}/index.ts` }, { find: /^vfio-rx\/(\w+)$/, replacement: `${src}/$1/index.ts` }] },
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/support/seed.ts'],
    // A bound, not a measure: a busy machine may take its time.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Otherwise one core is left to whoever watches, which is half of a machine with two.
    maxWorkers: '100%',
    // The virtual machine runs these.
    exclude: ['test/kernel/**', 'test/port/kernel.test.ts'],
  },
});
