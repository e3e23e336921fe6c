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
