/**
 * What a lane hands back, whatever it runs in. Every lane writes the same shape, so that the last line of `npm test`
 * is one sum.
 *
 * @typedef {object} Failure
 * @property {string} test full name: file > suite > test
 * @property {string} message what went wrong, with the stack in terms of the original sources
 * @property {boolean} [shown] the message was printed while the lane ran
 *
 * @typedef {object} Skip
 * @property {string} test
 * @property {string} reason
 *
 * @typedef {object} Outcome
 * @property {number} passed
 * @property {Failure[]} failures one for each failed test, and one for each file or run that broke down
 * @property {Skip[]} skips
 */

/** A lane cannot run on this machine; the message says why, and what would help. */
export class LaneUnavailable extends Error {
  /** @param {string} reason */
  constructor(reason) {
    super(reason);
    this.name = 'LaneUnavailable';
  }
}

/** @returns {Outcome} */
export function emptyOutcome() {
  return { passed: 0, failures: [], skips: [] };
}

/**
 * The last line of every run.
 *
 * @param {readonly Outcome[]} outcomes
 */
export function summaryLine(outcomes) {
  const sum = { passed: 0, failed: 0, skipped: 0 };
  for (const outcome of outcomes) {
    sum.passed += outcome.passed;
    sum.failed += outcome.failures.length;
    sum.skipped += outcome.skips.length;
  }
  return `${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`;
}

/**
 * A run without a single passed test proves nothing, so it is not a success.
 *
 * @param {readonly Outcome[]} outcomes
 */
export function exitCode(outcomes) {
  const passed = outcomes.reduce((sum, outcome) => sum + outcome.passed, 0);
  const failed = outcomes.reduce((sum, outcome) => sum + outcome.failures.length, 0);
  return failed > 0 || passed === 0 ? 1 : 0;
}
