import { writeFileSync } from 'node:fs';

import { emptyOutcome } from '../outcome.mjs';

/**
 * A reporter of vitest that writes the outcome in the lanes' common shape. vitest's own JSON leaves out why a test was
 * skipped and errors outside of tests.
 */
class OutcomeReporter {
  /**
   * @param {ReadonlyArray<import('vitest/node').TestModule>} modules
   * @param {ReadonlyArray<import('@vitest/utils').SerializedError>} unhandledErrors
   */
  onTestRunEnd(modules, unhandledErrors) {
    const outcome = emptyOutcome();
    for (const module of modules) {
      collect(module, outcome);
      for (const error of [...module.errors(), ...[...module.children.allSuites()].flatMap((suite) => suite.errors())]) {
        outcome.failures.push({ test: `${module.relativeModuleId} (outside of its tests)`, message: error.message, shown: true });
      }
    }
    for (const error of unhandledErrors) {
      outcome.failures.push({ test: 'outside of any test', message: error.message, shown: true });
    }
    const path = process.env['VFIO_RX_UNIT_RESULTS'];
    if (path !== undefined) writeFileSync(path, JSON.stringify(outcome));
  }
}

/**
 * @param {import('vitest/node').TestModule} module
 * @param {import('../outcome.mjs').Outcome} outcome
 */
function collect(module, outcome) {
  for (const test of module.children.allTests()) {
    const name = `${module.relativeModuleId} > ${test.fullName}`;
    const result = test.result();
    if (result.state === 'passed') {
      outcome.passed += 1;
    } else if (result.state === 'failed') {
      outcome.failures.push({ test: name, message: result.errors.map((error) => [error.message, error.diff, ...(error.stacks ?? []).map(({ file, line }) => `at ${file}:${line}`)].filter(Boolean).join('\n')).join('\n'), shown: true });
    } else if (result.state === 'skipped') {
      const fallback = test.options.mode === 'todo' ? 'not written yet' : 'no reason given';
      outcome.skips.push({ test: name, reason: result.note ?? fallback });
    } else {
      outcome.failures.push({ test: name, message: 'it was never finished' });
    }
  }
}

// vitest takes a reporter from a file's default export and from nowhere else.
export { OutcomeReporter as default };
