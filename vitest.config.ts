import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/support/seed.ts'],
    // A bound, not a measure: a busy machine may take its time.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // The virtual machine runs these.
    exclude: ['test/kernel/**', 'test/port/kernel.test.ts'],
  },
});
