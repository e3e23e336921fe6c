/** A line of a test: what a failure points at. */
export interface CallSite {
  readonly stack: string;
}

/** Remembers who called `callee`, the function of the kit that the test called. */
export function callSite(callee: (...args: never[]) => unknown): CallSite {
  const holder = { stack: '' };
  Error.captureStackTrace(holder, callee);
  return { stack: holder.stack.slice(holder.stack.indexOf('\n') + 1) };
}

/**
 * What a marble test fails with. A plain error named AssertionError with `expected` and `actual`, which every test runner
 * shows as a failed assertion; its stack begins at the line of the test that made the expectation.
 */
export class MarbleError extends Error {
  readonly expected: string | undefined;
  readonly actual: string | undefined;

  /** @internal */
  constructor(message: string, at: CallSite | undefined, compared?: { readonly expected: string; readonly actual: string }, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'AssertionError';
    this.expected = compared?.expected;
    this.actual = compared?.actual;
    if (at !== undefined) this.stack = `AssertionError: ${message}\n${at.stack}`;
  }
}
