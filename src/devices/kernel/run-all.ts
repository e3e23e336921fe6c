/** Runs every step, also after one that threw. Answers what was thrown, in order. */
export function runAll(steps: readonly (() => void)[]): readonly unknown[] {
  return steps.flatMap((step) => {
    try {
      step();
      return [];
    } catch (error) {
      return [error];
    }
  });
}

/** The same; throws the first error when all have run. */
export function runAllOrThrow(steps: readonly (() => void)[]): void {
  const [first] = runAll(steps).map((error) => ({ error }));
  if (first !== undefined) throw first.error;
}
