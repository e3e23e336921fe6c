/**
 * What `import ... from 'vitest'` means inside the guest: vitest's own task runner, matchers and spies without its
 * server, workers and transforms, which take a minute and more on an emulated processor. A name that is not exported
 * here makes the bundling fail, with the place that asked for it.
 */

import {
  ASYMMETRIC_MATCHERS_OBJECT,
  ChaiStyleAssertions,
  GLOBAL_EXPECT,
  JestAsymmetricMatchers,
  JestChaiExpect,
  JestExtend,
  addCustomEqualityTesters,
  chai,
  customMatchers,
  getState,
  setState,
} from '@vitest/expect';
import { createTaskCollector, getCurrentSuite, getCurrentTest, getFn, getHooks, setFn, setHooks } from '@vitest/runner';
import { createChainable } from '@vitest/runner/utils';
import { clearAllMocks, fn, isMockFunction, resetAllMocks, restoreAllMocks, spyOn } from '@vitest/spy';

export {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  it,
  onTestFailed,
  onTestFinished,
  suite,
  test,
} from '@vitest/runner';
export { chai };

export const assert = chai.assert;

/** Checked by the compiler, nothing to do at run time. */
export const expectTypeOf = () => new Proxy(() => expectTypeOf(), { get: () => expectTypeOf() });

/** Spies only: fake timers and module mocks have no place in tests against a real kernel. */
export const vi = { fn, spyOn, isMockFunction, clearAllMocks, resetAllMocks, restoreAllMocks };

/** The handles that extensions of vitest (such as the property tests' `test.prop`) use. */
export const TestRunner = {
  createChainable,
  createTaskCollector,
  getCurrentSuite,
  getCurrentTest,
  getSuiteHooks: getHooks,
  getTestFn: getFn,
  setSuiteHooks: setHooks,
  setTestFn: setFn,
};

for (const plugin of [JestExtend, JestChaiExpect, ChaiStyleAssertions, JestAsymmetricMatchers]) chai.use(plugin);

/**
 * State of one `expect`, by the matchers' own bookkeeping.
 *
 * @typedef {object} Counting
 * @property {number} assertionCalls
 * @property {boolean} isExpectingAssertions
 * @property {number | null} expectedAssertionsNumber
 */

/** @returns {Counting & Record<string, unknown>} */
const freshState = () => ({
  assertionCalls: 0,
  isExpectingAssertions: false,
  isExpectingAssertionsError: null,
  expectedAssertionsNumber: null,
  expectedAssertionsNumberErrorGen: null,
});

/**
 * What the plugins above add to chai's assertions, beside the matchers.
 *
 * @typedef {import('@vitest/expect').Assertion & {
 *   withTest: (test: import('@vitest/runner').Test) => import('@vitest/expect').Assertion,
 *   withContext: (context: { soft: boolean }) => import('@vitest/expect').Assertion,
 * }} FullAssertion
 *
 * @typedef {(self: object, matchers: import('@vitest/expect').MatchersObject) => void} Extend
 */

/**
 * @param {import('@vitest/runner').Test} [boundTest] the test whose context hands this `expect` out
 * @returns {import('@vitest/expect').ExpectStatic}
 */
export function createExpect(boundTest) {
  const asFunction = (/** @type {unknown} */ value, /** @type {string | undefined} */ message) => {
    setState({ assertionCalls: getState(self).assertionCalls + 1 }, self);
    const assertion = /** @type {FullAssertion} */ (chai.expect(value, message));
    const current = boundTest ?? getCurrentTest();
    return current === undefined ? assertion : assertion.withTest(current);
  };
  /** @type {import('@vitest/expect').ExpectStatic} */
  const self = Object.assign(asFunction, chai.expect, Reflect.get(globalThis, ASYMMETRIC_MATCHERS_OBJECT));
  /** @type {{ extend: Extend }} */
  const extensible = Object(chai.expect);
  setState(freshState(), self);
  Object.assign(self, {
    getState: () => getState(self),
    setState: (/** @type {Partial<import('@vitest/expect').MatcherState>} */ state) => setState(state, self),
    assert: chai.assert,
    extend: (/** @type {import('@vitest/expect').MatchersObject} */ matchers) => extensible.extend(self, matchers),
    addEqualityTesters: addCustomEqualityTesters,
    soft: (/** @type {unknown} */ value, /** @type {string | undefined} */ message) =>
      /** @type {FullAssertion} */ (self(value, message)).withContext({ soft: true }),
    poll: () => {
      throw new Error('expect.poll is not offered in the guest: wait for the event itself');
    },
    unreachable: (/** @type {string | undefined} */ message) =>
      chai.assert.fail(`expected ${message === undefined ? '' : `"${message}" `}not to be reached`),
    assertions: (/** @type {number} */ expected) => setState({ expectedAssertionsNumber: expected }, self),
    hasAssertions: () => setState({ isExpectingAssertions: true }, self),
  });
  self.extend(customMatchers);
  return self;
}

export const expect = createExpect();
// The matchers look for the state of "the" expect here.
Reflect.set(globalThis, GLOBAL_EXPECT, expect);

/** Called by the runner before each attempt of a test. */
export function resetAssertions() {
  setState(freshState(), expect);
}

/**
 * Called by the runner after each attempt.
 *
 * @param {import('@vitest/expect').ExpectStatic} used
 */
export function checkAssertions(used) {
  const { assertionCalls, isExpectingAssertions, expectedAssertionsNumber } = getState(used);
  if (typeof expectedAssertionsNumber === 'number' && assertionCalls !== expectedAssertionsNumber) {
    throw new Error(`expected ${expectedAssertionsNumber} assertions, but there were ${assertionCalls}`);
  }
  if (isExpectingAssertions && assertionCalls === 0) throw new Error('expected at least one assertion, but there was none');
}
