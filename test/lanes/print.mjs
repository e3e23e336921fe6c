/**
 * Prints what a reader needs after a lane's own output has scrolled by: the reasons of skips, the names of all failures, and
 * the messages of those that nobody has printed yet.
 *
 * @param {string} lane
 * @param {import('./outcome.mjs').Outcome} outcome
 */
export function printOutcome(lane, outcome) {
  for (const skip of outcome.skips) process.stdout.write(`${lane}: skipped: ${skip.test}: ${skip.reason}\n`);
  for (const failure of outcome.failures) {
    process.stdout.write(`${lane}: FAILED: ${failure.test}\n`);
    if (failure.shown !== true) process.stdout.write(`${failure.message.replaceAll(/^/gm, '    ')}\n`);
  }
}

/**
 * All failures once more, with their messages, before the last line: whoever sees only the end of a long run reads there what to mend.
 *
 * @param {readonly import('./outcome.mjs').Outcome[]} outcomes
 */
export function printFailures(outcomes) {
  for (const { test, message } of outcomes.flatMap((outcome) => outcome.failures)) {
    process.stdout.write(`\nFAILED: ${test}\n${message.replaceAll(/^/gm, '    ')}\n`);
  }
}
