import { throwIfAborted, type Abortable } from '../../abort.js';

/** One numbered rule of a contract, and how to find out whether a subject keeps it. Works in any test runner and without one. */
export interface Rule<Subject, Need extends string = never> {
  /** `PORT-6.2`: the second thing that PORT-6 says. docs/contract.md lists all. */
  readonly id: string;
  readonly title: string;
  /** What it must be able to make the subject do; it is skipped where that is lacking. */
  readonly needs?: readonly Need[];
  /** Throws (or rejects) where the rule is broken; calls `skip` where there is nothing to find out. */
  readonly check: (subject: Subject) => Promise<void> | void;
}

/** What became of one rule. */
export interface RuleResult {
  readonly rule: string;
  readonly title: string;
  readonly outcome: 'passed' | 'failed' | 'skipped';
  /** Why it failed or was skipped. */
  readonly reason?: string;
  /** What the check threw. */
  readonly error?: unknown;
}

/** What a subject cannot be made to do, and why. */
export type Lacks<Need extends string> = Partial<Readonly<Record<Need, string>>>;

class Skipped extends Error {}

/** Ends a check that has nothing to find out. */
export function skip(reason: string): never {
  throw new Skipped(reason);
}

/** A failed expectation of a check, in words. */
export function demand(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

/** The words of whatever was thrown. */
export function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Finds out about one rule. Never rejects. `after` is part of it: what cannot be tidied up is a failure too. */
export async function checkRule<Subject, Need extends string>(
  { id, title, needs = [], check }: Rule<Subject, Need>,
  subject: Subject,
  lacks: Lacks<Need> = {},
  after: () => Promise<void> | void = () => undefined,
): Promise<RuleResult> {
  const result = { rule: id, title };
  const [lacking] = needs.flatMap((need) => lacks[need] ?? []);
  if (lacking !== undefined) return { ...result, outcome: 'skipped', reason: lacking };
  const thrown: unknown[] = [];
  for (const step of [() => check(subject), after]) {
    try {
      await step();
    } catch (error) {
      thrown.push(error);
    }
  }
  const [error] = thrown;
  if (thrown.length === 0) return { ...result, outcome: 'passed' };
  return { ...result, outcome: error instanceof Skipped ? 'skipped' : 'failed', reason: wordsOf(error), ...(error instanceof Skipped ? {} : { error }) };
}

/** Finds out about rules, one after the other, and tells each result as it is known. Aborted, it rejects behind the rule in hand, where nothing is open. */
export async function checkRules<Kind>(rules: readonly Kind[], result: (rule: Kind) => Promise<RuleResult>, { signal }: Abortable, told: (result: RuleResult) => void = () => undefined): Promise<readonly RuleResult[]> {
  const results: RuleResult[] = [];
  for (const rule of rules) {
    throwIfAborted(signal, { operation: 'check' });
    const one = await result(rule);
    told(one);
    results.push(one);
  }
  return results;
}

/** What a suite needs of a test runner: `{ describe, it }` of vitest, of node:test, or of one that does as they do. */
export interface TestRunner {
  readonly describe: (name: string, body: () => void) => unknown;
  readonly it: (name: string, body: (context: { skip(reason?: string): unknown }) => Promise<void>) => unknown;
}

/** Makes one test of each rule. */
export function describeRules<Subject, Need extends string>(
  { describe, it }: TestRunner,
  name: string,
  rules: readonly Rule<Subject, Need>[],
  result: (rule: Rule<Subject, Need>) => Promise<RuleResult>,
): void {
  describe(name, () => {
    for (const rule of rules) {
      it(`${rule.id}: ${rule.title}`, async (context) => {
        const { outcome, reason, error } = await result(rule);
        if (outcome === 'skipped') context.skip(reason);
        if (outcome === 'failed') throw error;
      });
    }
  });
}
