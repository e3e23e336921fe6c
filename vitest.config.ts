import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // The virtual machine runs these.
    exclude: ['test/kernel/**', 'test/port/kernel.test.ts'],
  },
});
