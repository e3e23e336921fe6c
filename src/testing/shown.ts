import { inspect, isDeepStrictEqual } from 'node:util';
import type { Mark } from './marble-parser.js';

/** One event as a diagram shows it. Two events are the same thing exactly when their texts are equal. */
export interface Shown {
  readonly frame: number;
  readonly text: string;
}

/** One notification of an observable. */
export interface Notified {
  readonly frame: number;
  readonly kind: 'next' | 'complete' | 'error';
  readonly value: unknown;
}

/** What an expectation says and what came, in one set of names. */
export interface Named {
  readonly expected: readonly Shown[];
  readonly actual: readonly Shown[];
  /** What the names mean, where they do not mean themselves. */
  readonly meanings: ReadonlyMap<string, string>;
}

/** A name in a diagram: one character stands for itself, more stand in angle brackets. */
export function bracketed(name: string): string {
  return name.length === 1 ? name : `<${name}>`;
}

/**
 * Equality of values: deep and strict. An asymmetric matcher of the test runner is asked. An error is matched by a plain object
 * too, field by field (`{ code: 'VFIO_E_BUSY' }`), since errors are matched on their code.
 */
export function sameValue(actual: unknown, expected: unknown): boolean {
  if (isMatcher(expected)) return expected.asymmetricMatch(actual);
  if (actual instanceof Error && isPlainObject(expected)) {
    return Object.entries(expected).every(([key, value]) => isDeepStrictEqual(Reflect.get(actual, key), value));
  }
  return isDeepStrictEqual(actual, expected);
}

function isMatcher(value: unknown): value is { asymmetricMatch(other: unknown): boolean } {
  return typeof value === 'object' && value !== null && 'asymmetricMatch' in value && typeof value.asymmetricMatch === 'function';
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

/** The value that a name stands for: itself where no values are given. */
export function valueOf(name: string, values: Readonly<Record<string, unknown>> | undefined): unknown {
  if (values === undefined) return name;
  if (Object.hasOwn(values, name)) return values[name];
  throw new Error(`marbles name <${name}>, but the values have only ${Object.keys(values).map((key) => `<${key}>`).join(' ') || 'none'}`);
}

/** Marks of a `values` string as notifications. */
export function notifications(marks: readonly Mark[], values: Readonly<Record<string, unknown>> | undefined, error: unknown): readonly Notified[] {
  return marks.flatMap(({ frame, kind, name }): readonly Notified[] => {
    if (kind === 'next') return [{ frame, kind, value: valueOf(name, values) }];
    if (kind === 'complete') return [{ frame, kind, value: undefined }];
    if (kind === 'error') return [{ frame, kind, value: error }];
    return [];
  });
}

/** Gives what came the names of the expectation, and new ones (`?1`) to what it has no name for. */
export function named(
  expected: readonly { readonly mark: Mark; readonly notified: Notified }[],
  actual: readonly Notified[],
  values: Readonly<Record<string, unknown>>,
): Named {
  const meanings = new Map<string, string>();
  const names = new Map<string, unknown>(Object.entries(values));
  for (const { mark, notified } of expected) if (mark.kind === 'next') names.set(mark.name, notified.value);
  const unnamed: { readonly text: string; readonly value: unknown }[] = [];

  const shownExpected = expected.map(({ mark, notified }): Shown => {
    const text = mark.kind === 'next' ? bracketed(mark.name) : mark.name;
    if (mark.kind !== 'complete' && !meansItself(mark.name, notified.value)) meanings.set(text, describe(notified.value));
    return { frame: mark.frame, text };
  });

  const freshName = (prefix: string, value: unknown): string => {
    const known = unnamed.find((one) => one.text.startsWith(prefix) && isDeepStrictEqual(one.value, value));
    if (known !== undefined) return known.text;
    const text = `${prefix}?${unnamed.length + 1}>`;
    unnamed.push({ text, value });
    meanings.set(text, describe(value));
    return text;
  };

  const partner = partners(expected);
  const shownActual = actual.map((one): Shown => {
    const { frame, kind, value } = one;
    const here = partner(frame);
    const agrees = here !== undefined && here.notified.kind === kind && sameValue(value, here.notified.value);
    if (kind === 'complete') return { frame, text: '|' };
    if (kind === 'error') {
      const known = agrees || expected.some((other) => other.notified.kind === 'error' && sameValue(value, other.notified.value));
      return { frame, text: known ? '#' : freshName('<#', value) };
    }
    if (agrees) return { frame, text: bracketed(here.mark.name) };
    const match = [...names].find(([, known]) => sameValue(value, known))?.[0];
    if (match !== undefined) return { frame, text: bracketed(match) };
    const literal = literalName(value);
    return { frame, text: literal === undefined || names.has(literal) ? freshName('<', value) : bracketed(literal) };
  });

  return { expected: shownExpected, actual: shownActual, meanings };
}

/** The n-th call for a frame gives the n-th expectation of it. */
function partners<T extends { readonly mark: Mark }>(expected: readonly T[]): (frame: number) => T | undefined {
  const left = new Map<number, T[]>();
  for (const one of expected) left.set(one.mark.frame, [...(left.get(one.mark.frame) ?? []), one]);
  return (frame) => left.get(frame)?.shift();
}

function meansItself(name: string, value: unknown): boolean {
  return literalName(value) === name;
}

/** Short texts and numbers stand for themselves. */
function literalName(value: unknown): string | undefined {
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  return typeof value === 'string' && /^[\w.:+ -]{1,16}$/.test(value) && value !== '-' && value.trim() === value ? value : undefined;
}

/** A value in a message. */
export function describe(value: unknown): string {
  if (value instanceof Error) {
    const { code } = value as { readonly code?: unknown };
    return `${value.name}${typeof code === 'string' ? ` ${code}` : ''}: ${value.message}`;
  }
  return inspect(value, { depth: 5, breakLength: Infinity, sorted: true });
}
